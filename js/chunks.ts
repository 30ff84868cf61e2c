// Chunks by number -> where they lie, in an archive or in a base of it, and their payloads.
import type { Gathered } from './decoder.js';
import type { McwcError } from './errors.js';
import type { Source } from './source/source.js';
import type { Step } from './steps.js';

/** The preamble and header of an archive, and all of its bytes. */
export interface Link {
  head: Uint8Array;
  source: Source;
}

/** Where a chunk lies. */
export interface Place {
  source: Source;
  offset: number;
  bytes: number;
}

/** Damaged chunks that are fetched again for one job, which then starts over. */
const REPAIRS_MAX = 32;

export class Chunks {
  /** Of chunks that were fetched again, whether that was possible. */
  #refetched = new Map<number, Promise<boolean>>();

  /** `table`: of each chunk the archive, as its place in the chain, the offset there and the length. */
  constructor(
    private readonly table: Float64Array,
    private readonly chain: Link[],
  ) {}

  place(chunk: number): Place {
    const [archive, offset, bytes] = this.table.subarray(3 * chunk, 3 * chunk + 3);
    return { source: this.chain[archive].source, offset, bytes };
  }

  *places(steps: Iterable<Step>): Generator<Place> {
    for (const { chunk } of steps) if (chunk >= 0) yield this.place(chunk);
  }

  async payload(chunk: number): Promise<Uint8Array> {
    const { source, offset, bytes } = this.place(chunk);
    const payload = new Uint8Array(bytes);
    await source.read(offset, payload);
    return payload;
  }

  /** What `read` gives. A chunk that proves damaged is fetched again, by itself and once, and `read` called again. */
  async repaired<T>(read: () => Promise<T>): Promise<T> {
    const repaired = new Set<number>();
    for (;;) {
      try {
        return await read();
      } catch (error) {
        const chunk = (error as McwcError | undefined)?.chunk;
        const isOver = chunk === undefined || repaired.has(chunk) || repaired.size === REPAIRS_MAX;
        if (isOver || !(await this.#refetch(chunk))) throw error;
        repaired.add(chunk);
      }
    }
  }

  #refetch(chunk: number): Promise<boolean> {
    const { source, offset, bytes } = this.place(chunk);
    const refetched = this.#refetched.get(chunk) ?? source.refetch(offset, bytes);
    this.#refetched.set(chunk, refetched);
    return refetched;
  }

  /** Collects the payloads of steps; neighbouring chunks in one go. */
  async gather(steps: Step[], buffer?: ArrayBuffer): Promise<Gathered> {
    const lengths = steps.map(({ chunk }) => (chunk < 0 ? 0 : this.place(chunk).bytes));
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const payloads = new Uint8Array(buffer && buffer.byteLength >= total ? buffer : new ArrayBuffer(total), 0, total);
    for (let index = 0, at = 0; index < steps.length; ) {
      const { chunk } = steps[index];
      let length = lengths[index++];
      if (chunk < 0) continue;
      const { source, offset } = this.place(chunk);
      const follows = (next: number) => steps[index]?.chunk === next && this.place(next).source === source;
      for (let next = chunk + 1; follows(next); next++) length += lengths[index++];
      await source.read(offset, payloads.subarray(at, at + length));
      at += length;
    }
    return { steps, payloads, lengths };
  }
}

export async function arrival(places: Iterable<Place>): Promise<void> {
  for (const { source, offset, bytes } of places) await source.available(offset, bytes);
}
