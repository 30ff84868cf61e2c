// Compressed bytes of one archive -> blocks in a folder of a shelf, and back.
//
// What is in a block need not be right, only of the right length: whoever decodes checks the hash of every chunk, has what is
// damaged discarded, and fetches it again.
import type { Ranges } from '../source/ranges.js';
import { type Block, Blocks, blockOf, nameOf } from './blocks.js';
import { BlockReader } from './reader.js';
import type { Shelf } from './shelf.js';

/** Enough to write and to find quickly, little to lose when the page goes away. */
const BLOCK_BYTES = 2 << 20;
/** Blocks that are read before they are asked for: most archives are read in order, and then the page may be busy. */
const AHEAD = 3;
/** Longest time that arrived bytes wait for more. */
const WAIT_MS = 500;
/** The name of a file that is written last, with the length of the archive. */
const COMPLETE = 'complete-';

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
  /** Length of the archive, once all of it has been there. */
  total: number | undefined;
  readonly #blocks = new Blocks();
  #run: Run | undefined;
  readonly #reader = new BlockReader((block) => this.#readBlock(block));
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

  get isComplete(): boolean {
    return this.total !== undefined && this.kept.has(0, this.total);
  }

  /** Finds what others have written. */
  async refresh(): Promise<void> {
    const names = await this.shelf.names(this.integrity);
    const marker = names.find((name) => name.startsWith(COMPLETE));
    const total = Number(marker?.slice(COMPLETE.length));
    const listed = new Blocks();
    listed.add(...names.flatMap((name) => blockOf(name) ?? []));
    const isComplete = marker !== undefined && listed.kept.has(0, total);
    this.total = isComplete ? total : undefined;
    // Otherwise it would vouch for what replaces the blocks that are gone. One that cannot be removed is being written.
    if (marker !== undefined && !isComplete) await this.shelf.remove(this.integrity, marker).catch(() => {});
    const known = new Set([...this.#blocks].map(nameOf));
    const found = [...listed].filter((block) => !known.has(nameOf(block)));
    const whole = await Promise.all(found.map((block) => isComplete || this.#isWhole(block)));
    this.#blocks.add(...found.filter((_, index) => whole[index]));
  }

  /** Takes a block that another tab has written. */
  add(block: Block): void {
    if (![...this.#blocks].some(({ start, end }) => start === block.start && end === block.end)) this.#blocks.add(block);
  }

  /** Begins to read the blocks from there on. */
  readAhead(offset: number): void {
    let block: Block | undefined;
    for (let count = 0; count < AHEAD && (block = this.#blocks.at(offset)); count++, offset = block.end) this.#reader.bytesOf(block);
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    for (let at = 0; at < target.length; ) {
      const block = this.#blocks.at(offset + at);
      if (!block) throw new Error(`the cache has no byte ${offset + at}`);
      const from = offset + at - block.start;
      const bytes = this.#reader.bytesOf(block);
      this.readAhead(block.end);
      const part = (await bytes).subarray(from, from + target.length - at);
      target.set(part, at);
      at += part.length;
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
    for (const block of damaged) {
      const bytes = await this.#readBlock(block).catch(() => undefined);
      try {
        for (const part of bytes ? around(block, offset, end) : []) {
          await this.#put(part, bytes!.slice(part.start - block.start, part.end - block.start));
        }
      } finally {
        // Where there is no room for what is beside them, that goes with them.
        await this.#remove(block);
      }
    }
  }

  /** Forgets blocks that are no longer there. */
  async prune(): Promise<void> {
    for (const block of this.#blocks) if (!(await this.#isWhole(block))) await this.#remove(block);
  }

  /** Tells that these are all bytes. */
  async finish(total: number): Promise<void> {
    await this.shelf.put(this.integrity, COMPLETE + total, Uint8Array.of(1));
    this.total = total;
  }

  /** A crash leaves files that were being written empty. */
  async #isWhole(block: Block): Promise<boolean> {
    return (await this.shelf.get(this.integrity, nameOf(block)))?.size === block.end - block.start;
  }

  async #readBlock(block: Block): Promise<Uint8Array> {
    const blob = await this.shelf.get(this.integrity, nameOf(block));
    if (blob?.size !== block.end - block.start) throw new Error(`the cache has lost bytes ${nameOf(block)}`);
    return new Uint8Array(await blob.arrayBuffer());
  }

  #startRun(start: number): Run {
    let settle!: Run['settle'];
    const written = new Promise<void>((resolve, reject) => (settle = { resolve, reject }));
    return { start, end: start, pieces: [], written, settle, timer: setTimeout(() => this.flush(), WAIT_MS) };
  }

  async #remove(block: Block): Promise<void> {
    const { total } = this;
    this.total = undefined;
    this.#blocks.remove(block);
    this.#reader.forget(block);
    if (total !== undefined) await this.shelf.remove(this.integrity, COMPLETE + total);
    await this.shelf.remove(this.integrity, nameOf(block));
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
