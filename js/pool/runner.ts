// What runs the jobs of one archive: this thread, or its share of a worker's.
import type { Chunks } from '../chunks.js';
import type { Held, Step } from '../steps.js';
import type { Wasm } from '../wasm.js';
import type { DecoderThread } from './thread.js';

/** What becomes one buffer. */
export interface Job {
  bytes: number;
  buffer?: ArrayBuffer;
  steps(held: Held): Iterable<Step>;
}

/** What runners need of an archive. */
export interface Coded {
  wasm: Wasm;
  /** Of the archive, of its base, of the base of that. */
  heads: Uint8Array[];
  /** Of all chunks, one after another. */
  hashes: Uint8Array;
  chunks: Chunks;
}

export interface Runner {
  /** Its worker; undefined if that is this thread. */
  readonly thread?: DecoderThread;
  /** Jobs of the archive that it is not done with. */
  readonly jobs: number;
  /** Largest wasm memory of its thread so far. */
  readonly memoryBytes: number;
  /** Calls `onSent` if it can take another job before it is done with this one. */
  run(job: Job, signal: AbortSignal | undefined, onSent: () => void): Promise<ArrayBuffer>;
  close(error: unknown): void;
}
