// Archive bytes from wherever they come, readable by range while they are still arriving.

import type { Bytes } from './segments.js';

/** Bytes before the header; they hold its hash. */
export const PREAMBLE_BYTES = 32;

export interface Source {
  /** What holds its bytes, if they are not somewhere already. */
  readonly bytes?: Bytes;
  /** Whether these bytes can be read now. */
  has(offset: number, bytes: number): boolean;
  /** Resolves when they can be read (a lazy source fetches them); rejects if they never will be. */
  available(offset: number, bytes: number): Promise<void>;
  /** Fills `target` with the bytes from `offset` on, waiting for them if need be. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Fetches bytes again that proved damaged; false if it cannot. */
  refetch(offset: number, bytes: number): Promise<boolean>;
  /** Tells that nothing needs these bytes in memory any more: they may be dropped where they can be had again. */
  release(offset: number, bytes: number): void;
  /** Bytes in memory that `release` could drop; none where it is absent. */
  readonly heldBytes?: number;
  /** Tells the length that the header states. */
  expect(bytes: number): void;
  /** Settles when all bytes are there, or never will be. */
  readonly complete: Promise<void>;
  /** Drops the bytes, ends what fetches more, and fails every later read. */
  close(error: unknown): void;
}
