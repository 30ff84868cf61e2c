// The bytes of an archive: in memory until they are in the cache, then there.
import { Ranges } from '../source/ranges.js';
import { type Bytes, Segments } from '../source/segments.js';
import { PREAMBLE_BYTES } from '../source/source.js';
import type { CacheBackend } from '../types.js';
import { Entry, type EntryOptions } from './entry.js';
import { openShelf } from './shelf.js';


const PLACES = { opfs: 'in the origin private file system', 'cache-api': 'in the Cache API' };

export class KeptBytes implements Bytes {
  readonly held = new Ranges();
  readonly cached: Promise<void>;
  onGrowth = () => {};
  readonly #memory = new Segments();
  #entry: Entry | undefined;
  #opening: Promise<void> | undefined;
  /** Bytes that wait until the first of them have shown which archive they belong to. */
  #unidentified: [offset: number, bytes: Uint8Array][] | undefined = [];
  #writing = new Set<Promise<void>>();
  #expected: number | undefined;
  #settle!: { resolve(): void; reject(error: unknown): void };
  /** Why nothing more is kept. */
  #failure: string | undefined;
  #isClosed = false;

  /** `name`: that of the cache. `integrity`: the archive that has to lie at the address, if that is known. */
  constructor(
    private readonly name: string,
    private readonly address: Omit<EntryOptions, 'shelf' | 'onGrowth'>,
  ) {
    this.cached = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.cached.catch(() => {});
  }

  get inMemory(): Ranges {
    return this.#memory.held;
  }

  get cache(): CacheBackend {
    return this.#failure === undefined && this.#entry ? this.#entry.shelf.kind : 'memory';
  }

  get cacheReason(): string {
    const { shelf, offline } = this.#entry ?? {};
    const where = this.#failure ?? (shelf ? `kept ${PLACES[shelf.kind]}` : 'not looked for yet');
    return offline === undefined ? where : `${where}; used unasked, because the server could not be reached: ${offline}`;
  }

  opened(): Promise<void> {
    return (this.#opening ??= this.#open());
  }

  async turn(): Promise<void> {
    await this.opened();
    if (this.#failure !== undefined) return;
    await this.#entry!.lead();
    this.#grow();
  }

  expect(bytes: number): void {
    this.#expected = bytes;
    this.#finishIfWhole();
  }

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

  replace(offset: number, bytes: Uint8Array): void {
    const end = offset + bytes.length;
    const store = this.#entry?.store;
    this.#memory.remove(offset, end);
    this.#memory.write(offset, bytes);
    this.held.add(offset, end);
    const discarded = store?.discard(offset, bytes.length) ?? Promise.resolve();
    discarded.then(() => this.#keep(offset, bytes), (error) => this.#fail(error));
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
    for (const [start, end] of stored) await this.#entry!.store!.read(start, target.subarray(start - offset, end - offset));
  }

  clear(): void {
    this.#isClosed = true;
    this.#memory.clear();
    this.held.clear();
    this.#entry?.store?.flush();
    Promise.allSettled(this.#writing).then(() => {
      this.#settle.reject(new Error('closed'));
      this.#entry?.close();
    });
  }

  async #open(): Promise<void> {
    let shelf;
    try {
      shelf = await openShelf(this.name);
    } catch (error) {
      return this.#fail(error);
    }
    this.#entry = new Entry({ ...this.address, shelf, onGrowth: () => this.#grow() });
    if (this.#isClosed) return;
    await this.#entry.find();
    if (this.#entry.store?.kept.has(0, PREAMBLE_BYTES)) this.#onIdentified();
    else this.#grow();
  }

  #grow(): void {
    if (this.#isClosed) return;
    const store = this.#entry?.store;
    for (const [start, end] of store?.kept ?? []) this.held.add(start, end);
    if (store?.isComplete) this.#settle.resolve();
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
    const written = this.#entry!.store!.write(offset, bytes).then(
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
      await this.#entry!.identify(begin);
      this.#onIdentified();
    } catch (error) {
      this.#fail(error);
    }
  }

  async #finishIfWhole(): Promise<void> {
    const store = this.#entry?.store;
    if (!store || store.isComplete || this.#expected === undefined || !store.kept.has(0, this.#expected)) return;
    try {
      await this.#entry!.finish();
      this.#settle.resolve();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** What is kept stays readable; all else stays in memory. */
  #fail(error: unknown): void {
    const { name, message } = error as Error;
    this.#failure ??= name === 'Error' ? message : `${name}: ${message}`;
    this.#unidentified = undefined;
    this.#settle.reject(error);
    this.#entry?.resign();
  }
}
