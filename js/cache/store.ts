// Compressed bytes of one archive -> blocks in a folder of a shelf, and back.
//
// What is in a block need not be right, only of the right length: whoever decodes checks the hash of every chunk, has what is
// damaged discarded, and fetches it again.
import type { Ranges } from '../source/ranges.js';
import { type Block, Blocks, blockOf, nameOf } from './blocks.js';
import type { Shelf } from './shelf.js';

/** Enough to write and to find quickly, little to lose when the page goes away. */
const BLOCK_BYTES = 2 << 20;
/** Longest time that arrived bytes wait for more. */
const WAIT_MS = 500;
/** A file that is written last. */
const COMPLETE = 'complete';

/** Bytes in a row that are not written yet. */
interface Run {
  start: number;
  end: number;
  pieces: Uint8Array[];
  written: Promise<void>;
  settle: { resolve(): void; reject(error: unknown): void };
  timer: ReturnType<typeof setTimeout>;
}

export class Store {
  isComplete = false;
  readonly #blocks = new Blocks();
  #run: Run | undefined;
  #last: { block: Block; blob: Blob } | undefined;
  #failure: unknown;

  /** `onWritten` is told of each block. */
  private constructor(
    private readonly shelf: Shelf,
    readonly integrity: string,
    private readonly onWritten: (block: Block) => void,
  ) {}

  static async open(shelf: Shelf, integrity: string, onWritten: (block: Block) => void = () => {}): Promise<Store> {
    const store = new Store(shelf, integrity, onWritten);
    await store.refresh();
    return store;
  }

  /** Bytes that are kept. */
  get kept(): Ranges {
    return this.#blocks.kept;
  }

  /** Finds what others have written. */
  async refresh(): Promise<void> {
    const names = await this.shelf.names(this.integrity);
    this.isComplete = names.includes(COMPLETE);
    const known = new Set([...this.#blocks].map(nameOf));
    const found = names.filter((name) => !known.has(name)).flatMap((name) => blockOf(name) ?? []);
    const whole = await Promise.all(found.map((block) => this.isComplete || this.#isWhole(block)));
    this.#blocks.add(...found.filter((_, index) => whole[index]));
  }

  /** Takes a block that another tab has written. */
  add(block: Block): void {
    if (![...this.#blocks].some(({ start, end }) => start === block.start && end === block.end)) this.#blocks.add(block);
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const block = this.#blocks.at(offset + at);
      if (!block) throw new Error(`the cache has no byte ${offset + at}`);
      const from = offset + at - block.start;
      const part = (await this.#blobOf(block)).slice(from, from + target.length - at);
      target.set(new Uint8Array(await part.arrayBuffer()), at);
      at += part.size;
    }
  }

  /** Resolves when the bytes are kept, soon. Rejects when there is no room, and from then on. */
  write(offset: number, bytes: Uint8Array): Promise<void> {
    if (this.#failure) return Promise.reject(this.#failure);
    if (this.#run && this.#run.end !== offset) this.flush();
    this.#run ??= this.#startRun(offset);
    const run = this.#run;
    run.pieces.push(bytes);
    run.end += bytes.length;
    if (run.end - run.start >= BLOCK_BYTES) this.flush();
    return run.written;
  }

  /** Writes what has been waiting for more. */
  flush(): void {
    const run = this.#run;
    if (!run) return;
    this.#run = undefined;
    clearTimeout(run.timer);
    const bytes = new Uint8Array(run.end - run.start);
    let at = 0;
    for (const piece of run.pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    this.#put({ start: run.start, end: run.end }, bytes).then(run.settle.resolve, (error) => {
      this.#failure ??= error;
      run.settle.reject(error);
    });
  }

  /** Forgets bytes that proved damaged. Those beside them can be read all the while. */
  async discard(offset: number, bytes: number): Promise<void> {
    const end = offset + bytes;
    const damaged = this.#blocks.touching(offset, end);
    if (damaged.length === 0) return;
    await this.#setComplete(false);
    for (const block of damaged) {
      const blob = await this.#blobOf(block).catch(() => undefined);
      for (const part of blob ? around(block, offset, end) : []) {
        const bytes = await blob!.slice(part.start - block.start, part.end - block.start).arrayBuffer();
        await this.#put(part, new Uint8Array(bytes));
      }
      this.#blocks.remove(block);
      await this.shelf.remove(this.integrity, nameOf(block));
    }
  }

  /** Tells that all bytes are there. */
  async finish(): Promise<void> {
    await this.#setComplete(true);
  }

  async #setComplete(isComplete: boolean): Promise<void> {
    if (isComplete) await this.shelf.put(this.integrity, COMPLETE, Uint8Array.of(1));
    else if (this.isComplete) await this.shelf.remove(this.integrity, COMPLETE);
    this.isComplete = isComplete;
  }

  /** A crash leaves files that were being written empty. */
  async #isWhole(block: Block): Promise<boolean> {
    return (await this.shelf.get(this.integrity, nameOf(block)))?.size === block.end - block.start;
  }

  async #blobOf(block: Block): Promise<Blob> {
    if (this.#last?.block === block) return this.#last.blob;
    const blob = await this.shelf.get(this.integrity, nameOf(block));
    if (blob?.size !== block.end - block.start) throw new Error(`the cache has lost bytes ${nameOf(block)}`);
    this.#last = { block, blob };
    return blob;
  }

  #startRun(start: number): Run {
    let settle!: Run['settle'];
    const written = new Promise<void>((resolve, reject) => (settle = { resolve, reject }));
    return { start, end: start, pieces: [], written, settle, timer: setTimeout(() => this.flush(), WAIT_MS) };
  }

  async #put(block: Block, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.shelf.put(this.integrity, nameOf(block), bytes);
    this.add(block);
    this.onWritten(block);
  }
}

/** What a block has before and after a range. */
function around({ start, end }: Block, from: number, to: number): Block[] {
  return [
    { start, end: Math.min(end, from) },
    { start: Math.max(start, to), end },
  ].filter((part) => part.start < part.end);
}
