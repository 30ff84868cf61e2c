// The bytes of an archive: in memory until they are in the cache, then there.
import { Ranges } from '../source/ranges.js';
import { PREAMBLE_BYTES } from '../source/source.js';
import { Segments } from '../source/segments.js';
import { Entry, type EntryOptions } from './entry.js';


const KINDS = { opfs: 'the origin private file system', 'cache-api': 'the Cache API' };

export class KeptBytes {
  /** Which bytes there are, in memory or in the cache. */
  readonly held = new Ranges();
  /** Called when there are more without any having been written here. */
  onGrowth = () => {};
  readonly #memory = new Segments();
  readonly #entry: Entry;
  /** Bytes that wait until the first of them have shown which archive they belong to. */
  #unidentified: [offset: number, bytes: Uint8Array][] | undefined = [];
  #writing = new Set<Promise<void>>();
  #expected: number | undefined;
  #failure: string | undefined;

  private constructor(private readonly options: Omit<EntryOptions, 'onGrowth'>) {
    this.#entry = new Entry({ ...options, onGrowth: () => this.#grow() });
  }

  static async open(options: Omit<EntryOptions, 'onGrowth'>): Promise<KeptBytes> {
    const kept = new KeptBytes(options);
    await kept.#entry.find();
    if (kept.#entry.store?.kept.has(0, PREAMBLE_BYTES)) kept.#onIdentified();
    return kept;
  }

  /** Where bytes are kept now. */
  get cache(): 'opfs' | 'cache-api' | 'memory' {
    return this.#failure === undefined ? this.options.shelf.kind : 'memory';
  }

  get cacheReason(): string {
    const { offline } = this.#entry;
    const where = this.#failure ?? `${KINDS[this.options.shelf.kind]} has room`;
    return offline === undefined ? where : `${where}; used unasked, because the server could not be reached: ${offline}`;
  }

  /** Resolves when it is this tab's turn to fetch what is missing. */
  async turn(): Promise<void> {
    if (this.#failure !== undefined) return;
    await this.#entry.lead();
    this.#grow();
  }

  expect(bytes: number): void {
    this.#expected = bytes;
    this.#finishIfWhole();
  }

  /** Keeps what is not there yet, and says how many bytes that is. The bytes are not copied. */
  write(offset: number, bytes: Uint8Array): number {
    let added = 0;
    for (const [start, end] of this.held.missing(offset, offset + bytes.length)) {
      const part = bytes.subarray(start - offset, end - offset);
      this.#memory.write(start, part);
      this.held.add(start, end);
      this.#keep(start, part);
      added += part.length;
    }
    return added;
  }

  /** Writes over bytes that proved damaged. */
  replace(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    const { store } = this.#entry;
    this.#memory.remove(offset, end);
    this.#memory.write(offset, bytes);
    this.held.add(offset, end);
    const discarded = store?.discard(offset, bytes.length) ?? Promise.resolve();
    discarded.then(() => this.#keep(offset, bytes), (error) => this.#fail(error));
  }

  /** Copies bytes that are in memory; false if not all are. */
  readNow(offset: number, target: Uint8Array): boolean {
    if (!this.#memory.held.has(offset, offset + target.length)) return false;
    this.#memory.read(offset, target);
    return true;
  }

  /** Copies bytes from wherever they are. */
  async read(offset: number, target: Uint8Array): Promise<void> {
    const end = offset + target.length;
    const stored = this.#memory.held.missing(offset, end);
    // What is in memory now may be dropped while the rest is read.
    let at = offset;
    for (const [start, next] of [...stored, [end, end]]) {
      this.#memory.read(at, target.subarray(at - offset, start - offset));
      at = next;
    }
    for (const [start, end] of stored) await this.#entry.store!.read(start, target.subarray(start - offset, end - offset));
  }

  clear(): void {
    this.#memory.clear();
    this.held.clear();
    this.#unidentified = [];
    this.#entry.store?.flush();
    Promise.allSettled(this.#writing).then(() => this.#entry.close());
  }

  #grow(): void {
    for (const [start, end] of this.#entry.store?.kept ?? []) this.held.add(start, end);
    this.onGrowth();
  }

  #onIdentified(): void {
    const waiting = this.#unidentified ?? [];
    this.#unidentified = undefined;
    this.#grow();
    for (const [offset, bytes] of waiting) this.#keep(offset, bytes);
  }

  #keep(offset: number, bytes: Uint8Array): void {
    if (this.#failure !== undefined) return;
    if (this.#unidentified) {
      this.#unidentified.push([offset, bytes]);
      if (offset === 0) this.#identify(bytes);
      return;
    }
    const written = this.#entry.store!.write(offset, bytes).then(
      () => {
        this.#memory.remove(offset, offset + bytes.length);
        this.#finishIfWhole();
      },
      (error) => this.#fail(error),
    );
    this.#writing.add(written);
    written.finally(() => this.#writing.delete(written));
  }

  async #identify(begin: Uint8Array): Promise<void> {
    try {
      await this.#entry.identify(begin);
      this.#onIdentified();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #finishIfWhole(): Promise<void> {
    const { store } = this.#entry;
    if (!store || store.isComplete || this.#expected === undefined || !store.kept.has(0, this.#expected)) return;
    try {
      await this.#entry.finish();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What is kept stays readable; all else stays in memory. */
  #fail(error: unknown): void {
    const { name, message } = error as Error;
    this.#failure ??= `the cache failed: ${name}: ${message}`;
    this.#unidentified = undefined;
    this.#entry.resign();
  }
}
