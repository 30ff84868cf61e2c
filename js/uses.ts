// Which chunks are needed no more, as every byte of a file that depends on them has been decoded. Loaded only for archives that do
// not keep theirs.
import type { Chunks } from './chunks.js';
import type { Frame } from './description.js';
import { Ranges } from './source/ranges.js';
import { type Piece, nothing, stepsOf } from './steps.js';

export class Uses {
  /** Bytes of files that need a chunk and have not been decoded. */
  #needed = new Map<number, number>();
  /** Of each file, what has been decoded. */
  #decoded: Ranges[];

  /** `files`: the pieces of each. */
  constructor(
    files: Piece[][],
    private readonly frames: readonly Frame[],
    private readonly chunks: Chunks,
  ) {
    this.#decoded = files.map(() => new Ranges());
    for (const piece of files.flat()) this.#add(piece, piece.bytes);
  }

  /** Takes note that the pieces from `start` on have been decoded, and lets go of those of their chunks that nothing needs any more. */
  decoded(file: number, start: number, pieces: Piece[]): void {
    const touched = new Set<number>();
    for (const piece of pieces) {
      const end = start + piece.bytes;
      const fresh = this.#decoded[file].missing(start, end).reduce((sum, [from, to]) => sum + to - from, 0);
      this.#decoded[file].add(start, end);
      this.#add(piece, -fresh).forEach((chunk) => touched.add(chunk));
      start = end;
    }
    for (const chunk of touched) if (this.#needed.get(chunk) === 0) this.chunks.release(chunk);
  }

  /** Along with all references. */
  #add(piece: Piece, bytes: number): Set<number> {
    const chunks = new Set([...stepsOf([piece], this.frames, nothing())].map(({ chunk }) => chunk).filter((chunk) => chunk >= 0));
    for (const chunk of chunks) this.#needed.set(chunk, (this.#needed.get(chunk) ?? 0) + bytes);
    return chunks;
  }
}
