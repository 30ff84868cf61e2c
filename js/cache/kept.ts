// The bytes of an archive: in memory until they are in the cache, then there.
import { McwcError } from '../errors.js';
import { type Range, Ranges } from '../source/ranges.js';
import type { RemoteFile } from '../source/remote.js';
import { type Bytes, Segments } from '../source/segments.js';
import { PREAMBLE_BYTES } from '../source/source.js';
import type { ArchiveOptions, CacheBackend } from '../types.js';
import { Entry } from './entry.js';
import { openShelf } from './shelves.js';

/** As it goes into names of files, locks and caches. */
const NAME = /^[\w-]{1,64}$/;
const PLACES = {
  opfs: 'kept in the origin private file system',
  'cache-api': 'kept in the Cache API: the origin private file system is missing, or cannot be written to',
  memory: 'only what is got from an address is kept',
};

export class KeptBytes implements Bytes {
  readonly held = new Ranges();
  readonly arrived = new Ranges();
  readonly dropped = new Ranges();
  readonly cached: Promise<boolean>;
  onGrowth = () => {};
  readonly #memory = new Segments();
  #entry: Entry | undefined;
  #opening: Promise<void> | undefined;
  #identifying: Promise<void> | undefined;
  /** Bytes that wait until the first of them have shown which archive they belong to. */
  #unidentified: [offset: number, bytes: Uint8Array][] | undefined = [];
  /** Fresh bytes whose damaged ones may still be on their way into the cache. */
  #replaced = new Ranges();
  #replacing = new Set<Promise<void>>();
  #writing = new Set<Promise<void>>();
  #cutting: Promise<void> | undefined;
  #expected: number | undefined;
  #settle!: (isCached: boolean) => void;
  /** Why nothing more is kept. */
  #failure: string | undefined;
  #isClosed = false;

  constructor(
    private readonly file: RemoteFile,
    private readonly source: Request | Response,
    private readonly silenceMs: number,
    private readonly options: ArchiveOptions,
  ) {
    const { cache } = options;
    if (cache !== true && !NAME.test(cache as string)) {
      throw new McwcError('argument', `cache must be true, false, or a name of at most 64 letters, digits, - and _`);
    }
    this.cached = new Promise((resolve) => (this.#settle = resolve));
  }

  get inMemory(): Ranges {
    return this.#memory.held;
  }

  get cache(): CacheBackend {
    return this.#failure === undefined && this.#entry ? this.#entry.shelf.kind : 'memory';
  }

  get cacheReason(): string {
    const offline = this.#entry?.offline;
    const where = this.#failure ?? PLACES[this.cache];
    return offline === undefined ? where : `${where}; used unasked, because the server could not be reached: ${offline}`;
  }

  opened(): Promise<void> {
    return (this.#opening ??= this.#open());
  }

  async turn(): Promise<void> {
    await this.opened();
    try {
      if (this.#failure === undefined) await this.#entry?.lead();
    } catch (error) {
      this.#fail(error);
    }
    this.#grow();
  }

  rest(): void {
    this.#entry?.resign();
  }

  expect(bytes: number): void {
    if (this.#isClosed) return;
    this.#expected = bytes;
    if (this.#cut()) {
      this.held.remove(bytes, Infinity);
      this.arrived.remove(bytes, Infinity);
    }
    this.#finishIfWhole();
  }

  write(offset: number, bytes: Uint8Array): number {
    let added = 0;
    this.arrived.add(offset, offset + bytes.length);
    for (const [start, end] of this.missing(offset, offset + bytes.length)) {
      const part = bytes.subarray(start - offset, end - offset);
      this.#memory.write(start, part);
      this.held.add(start, end);
      this.#keep(start, part);
      added += part.length;
    }
    return added;
  }

  missing(start: number, end: number): Range[] {
    return this.held.missing(start, end).flatMap(([start, end]) => this.dropped.missing(start, end));
  }

  /** What is in the cache, or will be, leaves memory by itself. */
  drop(start: number, end: number): void {
    if (this.#failure === undefined) return;
    for (const [first, last] of (this.#entry?.store?.kept ?? new Ranges()).missing(start, end)) {
      this.#memory.remove(first, last);
      this.held.remove(first, last);
      this.dropped.add(first, last);
    }
  }

  replace(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    this.#memory.remove(offset, end);
    this.#memory.write(offset, bytes);
    this.held.add(offset, end);
    this.#replaced.add(offset, end);
    settling(this.#replaceKept(offset, bytes), this.#replacing);
  }

  read(offset: number, target: Uint8Array): void {
    this.#memory.read(offset, target);
  }

  async load(offset: number, target: Uint8Array): Promise<void> {
    const end = offset + target.length;
    const stored = this.#memory.held.missing(offset, end);
    // What is in memory now may be dropped while the rest is read.
    let at = offset;
    for (const [start, next] of [...stored, [end, end]]) {
      this.#memory.read(at, target.subarray(at - offset, start - offset));
      at = next;
    }
    for (const [start, end] of stored) await this.#load(start, target.subarray(start - offset, end - offset));
  }

  async remove(start: number, end: number): Promise<void> {
    await this.#settled();
    const store = this.#entry?.store;
    if (store) await this.#add(store.discard(start, end - start).then(() => store.prune()));
    this.#memory.remove(start, end);
    this.held.clear();
    for (const [first, last] of [...this.#memory.held, ...(store?.kept ?? [])]) this.held.add(first, last);
  }

  clear(): void {
    this.#isClosed = true;
    this.#memory.clear();
    this.held.clear();
    this.#end();
  }

  async #load(offset: number, target: Uint8Array): Promise<void> {
    try {
      await this.#entry!.store!.read(offset, target);
    } catch (error) {
      throw new McwcError('io', `the cache cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }

  async #end(): Promise<void> {
    await Promise.all(this.#replacing);
    await this.#settled();
    this.#settle(false);
    this.#entry?.close();
  }

  async #open(): Promise<void> {
    const { file, source, silenceMs, options } = this;
    if (source instanceof Response || !file.canRestart) return this.#settle(false);
    try {
      const shelf = await openShelf(options.cache === true ? 'default' : (options.cache as string));
      if (this.#isClosed) return;
      const url = source.url.replace(/#.*/, '');
      const integrity = options.integrity?.toLowerCase();
      this.#entry = new Entry({ shelf, url, file, integrity, silenceMs, onGrowth: () => this.#grow() });
      await this.#entry.find();
    } catch (error) {
      // What the server says does not depend on the cache.
      if (error instanceof McwcError) throw error;
      return this.#fail(error);
    }
    if (this.#entry.store?.kept.has(0, PREAMBLE_BYTES)) this.#onIdentified();
    else this.#grow();
  }

  #grow(): void {
    if (this.#isClosed) return;
    const store = this.#entry?.store;
    const most = this.#expected ?? Infinity;
    for (const [start, end] of store?.kept ?? []) {
      this.held.add(start, Math.min(end, most));
      this.arrived.add(start, Math.min(end, most));
    }
    this.#finishIfWhole();
    this.onGrowth();
  }

  /** Has what a server once sent beyond the end removed from the cache; whether that goes on. */
  #cut(): boolean {
    const store = this.#entry?.store;
    if (store && this.#expected !== undefined && store.kept.overlaps(this.#expected, Infinity)) {
      this.#cutting ??= this.#add(store.discard(this.#expected, Infinity).then(() => this.#onCut()));
    }
    return this.#cutting !== undefined;
  }

  #onCut(): Promise<void> {
    this.#cutting = undefined;
    return this.#finishIfWhole();
  }

  #onIdentified(): void {
    const waiting = this.#unidentified ?? [];
    this.#unidentified = undefined;
    this.#grow();
    for (const [offset, bytes] of waiting) this.#keep(offset, bytes);
  }

  #keep(offset: number, bytes: Uint8Array): void {
    if (this.#failure !== undefined || !this.#entry) return;
    if (this.#unidentified) {
      this.#unidentified.push([offset, bytes]);
      if (offset === 0) this.#identifying = this.#identify(bytes);
      return;
    }
    const end = offset + bytes.length;
    const written = this.#entry!.store!.write(offset, bytes).then(() => {
      for (const [first, last] of this.#replaced.missing(offset, end)) this.#memory.remove(first, last);
      return this.#finishIfWhole();
    });
    this.#add(written);
  }

  #add(writing: Promise<void>): Promise<void> {
    return settling(writing.catch((error) => this.#fail(error)), this.#writing);
  }

  /** Resolves when what is to be kept has been written so far. */
  async #settled(): Promise<void> {
    await this.#identifying;
    this.#entry?.store?.flush();
    await Promise.all(this.#writing);
  }

  async #replaceKept(offset: number, bytes: Uint8Array): Promise<void> {
    await this.#settled();
    const store = this.#entry?.store;
    if (store) await this.#add(store.discard(offset, bytes.length));
    this.#replaced.remove(offset, offset + bytes.length);
    this.#keep(offset, bytes);
  }

  async #identify(begin: Uint8Array): Promise<void> {
    try {
      if (begin.length < PREAMBLE_BYTES) throw new Error('it is no archive');
      await this.#entry!.identify(begin);
      this.#onIdentified();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #finishIfWhole(): Promise<void> {
    if (this.#cut()) return this.#cutting;
    const store = this.#entry?.store;
    if (store?.isComplete) return this.#settle(true);
    if (!store || this.#replaced.size > 0 || this.#expected === undefined || !store.kept.has(0, this.#expected)) return;
    try {
      await this.#entry!.finish(this.#expected);
      this.#settle(true);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What is kept stays readable; all else stays in memory. */
  #fail(error: unknown): void {
    const { name, message } = error as Error;
    this.#failure ??= name === 'Error' ? message : `${name}: ${message}`;
    this.#unidentified = undefined;
    this.#settle(false);
    this.#entry?.resign();
  }
}

/** Has a promise among others until it resolves. */
async function settling(promise: Promise<void>, among: Set<Promise<void>>): Promise<void> {
  among.add(promise);
  await promise;
  among.delete(promise);
}
