// Bytes in memory, as the segments in which they arrived: at any offsets, in any order.
import { Ranges } from './ranges.js';

interface Segment {
  start: number;
  bytes: Uint8Array;
}

export class Segments {
  /** Which bytes there are. */
  readonly held = new Ranges();
  /** Ascending, disjoint. */
  #segments: Segment[] = [];

  /** Keeps what is not there yet, and says how many bytes that is. The bytes are not copied. */
  write(offset: number, bytes: Uint8Array): number {
    let added = 0;
    for (const [start, end] of this.held.missing(offset, offset + bytes.length)) {
      const at = this.#after(start);
      this.#segments.splice(at, 0, { start, bytes: bytes.subarray(start - offset, end - offset) });
      added += end - start;
    }
    this.held.add(offset, offset + bytes.length);
    return added;
  }

  /** Writes over bytes that are there. */
  replace(offset: number, bytes: Uint8Array): void {
    for (const [part, from] of this.#parts(offset, bytes.length)) part.set(bytes.subarray(from, from + part.length));
  }

  /** Copies bytes that are there. */
  read(offset: number, target: Uint8Array): void {
    for (const [part, from] of this.#parts(offset, target.length)) target.set(part, from);
  }

  clear(): void {
    this.#segments = [];
    this.held.clear();
  }

  /** The parts of the segments that make up a range, each with its place in it. */
  *#parts(offset: number, bytes: number): Generator<[Uint8Array, number]> {
    for (let at = 0, index = this.#after(offset) - 1; at < bytes; index++) {
      const { start, bytes: segment } = this.#segments[index];
      const from = offset + at - start;
      const part = segment.subarray(from, from + bytes - at);
      yield [part, at];
      at += part.length;
    }
  }

  /** How many segments start at `offset` or before. */
  #after(offset: number): number {
    let low = 0;
    for (let high = this.#segments.length; low < high; ) {
      const middle = (low + high) >> 1;
      if (this.#segments[middle].start <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
