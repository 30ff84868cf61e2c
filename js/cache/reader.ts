// Blocks -> their bytes, those of the last few kept for a moment: workers read on in several blocks at once, a few chunks at a time, and a
// file takes longer to open than to read.
import type { Block } from './blocks.js';

const RECENT = 8;
const RECENT_MS = 1000;

export class BlockReader {
  /** The latest last. */
  readonly #recent = new Map<Block, Promise<Uint8Array>>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly read: (block: Block) => Promise<Uint8Array>) {}

  bytesOf(block: Block): Promise<Uint8Array> {
    const bytes = this.#recent.get(block) ?? this.read(block);
    bytes.catch(() => this.forget(block));
    this.#recent.delete(block);
    this.#recent.set(block, bytes);
    if (this.#recent.size > RECENT) this.forget(this.#recent.keys().next().value!);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#recent.clear(), RECENT_MS);
    return bytes;
  }

  forget(block: Block): void {
    this.#recent.delete(block);
  }
}
