// Bytes in memory, as the segments in which they arrived: at any offsets, in any order.
import type { CacheBackend } from '../types.js';
import { Ranges } from './ranges.js';

interface Segment {
  start: number;
  bytes: Uint8Array;
}

/** What holds the bytes of an archive. */
export interface Bytes {
  /** Which bytes there are. */
  readonly held: Ranges;
  /** Those of them that `read` can copy. */
  readonly inMemory: Ranges;
  /** Where they outlive the page, and why there. */
  readonly cache?: CacheBackend;
  readonly cacheReason?: string;
  /** Whether all of them do, in the end. */
  readonly cached?: Promise<boolean>;
  /** Called when there are more that were not written here. */
  onGrowth: () => void;
  /** Keeps what is not there yet, and says how many bytes that is. The bytes are not copied. */
  write(offset: number, bytes: Uint8Array): number;
  /** Writes over bytes that proved damaged. */
  replace(offset: number, bytes: Uint8Array): void;
  read(offset: number, target: Uint8Array): void;
  /** Copies those that are not in memory too. */
  load?(offset: number, target: Uint8Array): Promise<void>;
  /** Resolves when it is known what has been kept. Rejects if it need not be known. */
  opened?(): Promise<void>;
  /** Resolves when nobody else fetches what is missing. */
  turn?(): Promise<void>;
  /** Tells the length of the archive. */
  expect?(bytes: number): void;
  clear(): void;
}

export class Segments implements Bytes {
  readonly held = new Ranges();
  onGrowth = () => {};
  /** Ascending, disjoint. */
  #segments: Segment[] = [];

  get inMemory(): Ranges {
    return this.held;
  }

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

  replace(offset: number, bytes: Uint8Array): void {
    for (const [part, from] of this.#parts(offset, bytes.length)) part.set(bytes.subarray(from, from + part.length));
  }

  read(offset: number, target: Uint8Array): void {
    for (const [part, from] of this.#parts(offset, target.length)) target.set(part, from);
  }

  remove(start: number, end: number): void {
    this.#segments = this.#segments.flatMap((segment) => {
      const { start: first, bytes } = segment;
      const last = first + bytes.length;
      if (last <= start || end <= first) return segment;
      const parts = [
        { start: first, bytes: bytes.subarray(0, Math.max(0, start - first)) },
        { start: end, bytes: bytes.subarray(Math.min(bytes.length, end - first)) },
      ];
      return parts.filter(({ bytes }) => bytes.length > 0);
    });
    this.held.remove(start, end);
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
