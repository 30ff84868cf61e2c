// Which chunks are needed no more, as every byte of a file that depends on them has been decoded.
import { Ranges } from './source/ranges.js';
import type { Piece } from './steps.js';

export class Uses {
  /** Bytes of files that need a chunk and have not been decoded. */
  #needed = new Map<number, number>();
  /** Of each file, what has been decoded. */
  #decoded: Ranges[];

  /** `files`: the pieces of each. `chunksOf`: what a piece takes, along with all references. */
  constructor(
    files: Piece[][],
    private readonly chunksOf: (piece: Piece) => Set<number>,
  ) {
    this.#decoded = files.map(() => new Ranges());
    for (const piece of files.flat()) this.#add(piece, piece.bytes);
  }

  /** Takes note that the pieces from `start` on have been decoded; gives those of their chunks that nothing needs any more. */
  decoded(file: number, start: number, pieces: Piece[]): Set<number> {
    const chunks = new Set<number>();
    for (const piece of pieces) {
      const end = start + piece.bytes;
      const fresh = this.#decoded[file].missing(start, end).reduce((sum, [from, to]) => sum + to - from, 0);
      this.#decoded[file].add(start, end);
      this.#add(piece, -fresh).forEach((chunk) => chunks.add(chunk));
      start = end;
    }
    return new Set([...chunks].filter((chunk) => this.#needed.get(chunk) === 0));
  }

  #add(piece: Piece, bytes: number): Set<number> {
    const chunks = this.chunksOf(piece);
    for (const chunk of chunks) this.#needed.set(chunk, (this.#needed.get(chunk) ?? 0) + bytes);
    return chunks;
  }
}
