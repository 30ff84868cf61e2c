// Bytes in memory, as the segments in which they arrived: at any offsets, in any order.
import type { CacheBackend } from '../types.js';
import { type Range, Ranges } from './ranges.js';

interface Segment {
  start: number;
  bytes: Uint8Array;
}

/** What holds the bytes of an archive. */
export interface Bytes {
  /** Which bytes there are. */
  readonly held: Ranges;
  /** Which have ever been. */
  readonly arrived: Ranges;
  /** Which are not to be kept if they come again. */
  readonly dropped: Ranges;
  /** Those that `read` can copy. */
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
  /** What of a range is not there, and would be kept. */
  missing(start: number, end: number): Range[];
  /** Lets go of bytes that are there. */
  drop(start: number, end: number): void;
  /** Writes over bytes that proved damaged. */
  replace(offset: number, bytes: Uint8Array): void;
  /** Forgets bytes that proved damaged, and others that are lost: they are missing then. */
  remove(start: number, end: number): void | Promise<void>;
  read(offset: number, target: Uint8Array): void;
  /** Copies those that are not in memory too. */
  load?(offset: number, target: Uint8Array): Promise<void>;
  /** Resolves when it is known what has been kept. Rejects if it need not be known. */
  opened?(): Promise<void>;
  /** Resolves when nobody else fetches what is missing. */
  turn?(): Promise<void>;
  /** Tells that this tab fetches no more of it for now. */
  rest?(): void;
  /** Tells the length of the archive. */
  expect?(bytes: number): void;
  clear(): void;
}

export class Segments implements Bytes {
  readonly held = new Ranges();
  readonly arrived = new Ranges();
  readonly dropped = new Ranges();
  onGrowth = () => {};
  /** Ascending, disjoint. */
  #segments: Segment[] = [];

  get inMemory(): Ranges {
    return this.held;
  }

  write(offset: number, bytes: Uint8Array): number {
    let added = 0;
    this.arrived.add(offset, offset + bytes.length);
    for (const [start, end] of this.missing(offset, offset + bytes.length)) {
      const at = this.#after(start);
      this.#segments.splice(at, 0, { start, bytes: bytes.subarray(start - offset, end - offset) });
      this.held.add(start, end);
      added += end - start;
    }
    return added;
  }

  missing(start: number, end: number): Range[] {
    return this.held.missing(start, end).flatMap(([start, end]) => this.dropped.missing(start, end));
  }

  drop(start: number, end: number): void {
    this.remove(start, end);
    this.dropped.add(start, end);
  }

  /** Their memory is free when nothing is left of what arrived along with them. */
  remove(start: number, end: number): void {
    const first = Math.max(0, this.#after(start) - 1);
    const rests = this.#segments.slice(first, this.#after(end - 1)).flatMap(({ start: from, bytes }) => [
      { start: from, bytes: bytes.subarray(0, Math.max(0, start - from)) },
      { start: end, bytes: bytes.subarray(Math.max(0, end - from)) },
    ]);
    this.#segments.splice(first, this.#after(end - 1) - first, ...rests.filter(({ bytes }) => bytes.length > 0));
    this.held.remove(start, end);
  }

  replace(offset: number, bytes: Uint8Array): void {
    for (const [part, from] of this.#parts(offset, bytes.length)) part.set(bytes.subarray(from, from + part.length));
  }

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
