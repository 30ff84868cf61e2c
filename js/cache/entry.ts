// The archive at an address -> its store, shared with other tabs: one fetches, the others see what it has written.
//
// An archive's bytes lie under its integrity, so that they are never taken for another's. A record says what was found at the address.
import type { Interruption, RemoteFile } from '../source/remote.js';
import { PREAMBLE_BYTES } from '../source/source.js';
import type { Block } from './blocks.js';
import { lock, tryLock } from './locks.js';
import { HASH_AT, HASH_BYTES, HEADER_BYTES_AT, hex, integrityOf } from './preamble.js';
import { type Record, allRecords, archivesOn, readRecord, writeRecord } from './records.js';
import type { Shelf } from './shelf.js';
import { Store } from './store.js';

export interface EntryOptions {
  shelf: Shelf;
  url: string;
  /** The archive that has to lie there, if the caller knows. */
  integrity: string | undefined;
  file: RemoteFile;
  /** How long another tab may show no progress before this one goes its own way. */
  silenceMs: number;
  /** Called when another tab has written something. */
  onGrowth(): void;
}

/** On an address until it is known what lies there; on an archive to be used, and to fetch what is missing of it. */
type Lock = 'address' | 'use' | 'lead';

export class Entry {
  /** Undefined until it is known which archive it is. */
  store: Store | undefined;
  /** Why the server could not be asked. */
  offline: string | undefined;
  #record: Record | undefined;
  /** Of an archive that is in use, whether or not it is the right one. */
  #opened: Store | undefined;
  #channel: BroadcastChannel | undefined;
  readonly #held = new Map<Lock, () => void>();
  #leading: Promise<void> | undefined;
  #isClosed = false;
  /** Called when another tab shows progress. */
  #onProgress = () => {};
  #stopWaiting = () => {};

  constructor(private readonly options: EntryOptions) {}

  get shelf(): Shelf {
    return this.options.shelf;
  }

  /** Finds what is kept of the archive that lies at the address now. */
  async find(): Promise<void> {
    const { shelf, url, integrity } = this.options;
    // Of tabs that come at once, the second waits until the first knows what lies there.
    await this.#hold('address', `${shelf.name}/${url}`);
    this.#record = await readRecord(shelf, url);
    if (integrity) {
      if ((await shelf.names(integrity)).length > 0) await this.#take(integrity);
    } else if (this.#record) {
      // Most likely what lies there now is what did.
      const [found] = await Promise.all([this.#look(), this.#open(this.#record.integrity)]);
      await this.#take(found ?? (await this.#usable(this.#record)));
    }
  }

  /** Learns from an archive's first bytes which one it is; throws if it is not the one that has to be there. */
  async identify(preamble: Uint8Array): Promise<void> {
    const found = integrityOf(preamble);
    const wanted = this.store?.integrity ?? this.options.integrity ?? found;
    if (found !== wanted) throw new Error(`the archive is ${found}, not ${wanted}`);
    if (this.store) return;
    // Whoever learns it this way is fetching already.
    const release = await tryLock(this.#lockName(found, 'lead'));
    if (release) this.#held.set('lead', release);
    this.#leading = Promise.resolve();
    await this.#take(found);
  }

  /** Resolves when it is this tab's turn to fetch what is missing. */
  async lead(): Promise<void> {
    const { store } = this;
    if (!store || store.isComplete) return;
    this.#leading ??= this.#hold('lead', this.#lockName(store.integrity, 'lead')).then(() => store.refresh());
    await this.#leading;
  }

  /** Lets another tab fetch. */
  resign(): void {
    this.#release('address');
    this.#release('lead');
    this.#leading = undefined;
  }

  /** Tells that all bytes are kept. */
  async finish(total: number): Promise<void> {
    await this.store!.finish(total);
    this.#channel!.postMessage({ total });
    this.#release('lead');
    await this.#replace();
  }

  close(): void {
    this.#isClosed = true;
    this.#stopWaiting();
    this.#channel?.close();
    for (const kind of [...this.#held.keys()]) this.#release(kind);
  }

  /** Opens what is kept of an archive, which nobody deletes then. */
  async #open(integrity: string): Promise<void> {
    const { shelf, onGrowth } = this.options;
    await this.#hold('use', this.#lockName(integrity, 'use'), 'shared');
    if (this.#isClosed) return;
    const channel = new BroadcastChannel(`mcwc/${shelf.name}/${integrity}`);
    this.#channel = channel;
    const store = await Store.open(shelf, integrity, (block) => channel.postMessage(block));
    channel.onmessage = ({ data }: MessageEvent<Block | { total: number }>) => {
      if ('total' in data) store.total = data.total;
      else store.add(data);
      this.#onProgress();
      onGrowth();
    };
    store.readAhead(0);
    this.#opened = store;
  }

  async #take(integrity: string): Promise<void> {
    if (this.#opened?.integrity !== integrity) {
      this.#channel?.close();
      this.#release('use');
      await this.#open(integrity);
    }
    const store = this.#opened;
    if (this.#isClosed || !store) return;
    this.options.file.preamble ??= await checkHead(store);
    this.store = store;
    if (!this.offline) await this.#remember();
    this.#release('address');
  }

  /**
   * Asks for the preamble: its hash pins the whole archive. That tells more than a conditional request, whatever the server makes of
   * ETags and whether or not it shows them to pages of other origins; and it takes no preflight.
   */
  async #look(): Promise<string | undefined> {
    const { file } = this.options;
    try {
      for await (const _ of file.read(0, PREAMBLE_BYTES, 'no-store')) break;
      return integrityOf(file.preamble!);
    } catch (error) {
      // An interruption, rather than an answer.
      if (!(error as Partial<Interruption>).failure) throw error;
      this.offline = (error as Error).message;
      return undefined;
    }
  }

  /** Without the server, what is complete has to do. */
  async #usable({ integrity, previous }: Record): Promise<string> {
    if (!previous) return integrity;
    return (await Store.open(this.options.shelf, integrity)).isComplete ? integrity : previous;
  }

  async #remember(): Promise<void> {
    const { shelf, url } = this.options;
    const last = this.#record;
    const { integrity, isComplete } = this.store!;
    if (last?.integrity === integrity && !last.previous) return;
    if (isComplete) return this.#replace();
    const wasComplete = last && last.integrity !== integrity && (await Store.open(shelf, last.integrity)).isComplete;
    await writeRecord(shelf, { url, integrity, previous: wasComplete ? last.integrity : last?.previous });
  }

  /** Deletes what lay at the address before, unless it is in use, and what else no address leads to. */
  async #replace(): Promise<void> {
    const { shelf, url } = this.options;
    await writeRecord(shelf, { url, integrity: this.store!.integrity });
    const records = await allRecords(shelf);
    const wanted = new Set(records.flatMap(({ integrity, previous }) => [integrity, previous]));
    for (const integrity of await archivesOn(shelf)) {
      const release = wanted.has(integrity) ? undefined : await tryLock(this.#lockName(integrity, 'use'));
      if (!release) continue;
      await shelf.removeFolder(integrity);
      release();
    }
  }

  #lockName(integrity: string, kind: Lock): string {
    return `${this.options.shelf.name}/${integrity}/${kind}`;
  }

  /** Waits for a lock, but not for a tab that shows no progress: then bytes are fetched twice. */
  async #hold(kind: Lock, name: string, mode?: LockMode): Promise<void> {
    const waiting = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    this.#stopWaiting = () => waiting.abort();
    this.#onProgress = () => {
      clearTimeout(timer);
      timer = setTimeout(this.#stopWaiting, this.options.silenceMs);
    };
    this.#onProgress();
    const release = await lock(name, { mode, signal: waiting.signal }).catch(() => undefined);
    clearTimeout(timer);
    this.#onProgress = this.#stopWaiting = () => {};
    if (release && !this.#isClosed) this.#held.set(kind, release);
    else release?.();
  }

  #release(kind: Lock): void {
    this.#held.get(kind)?.();
    this.#held.delete(kind);
  }
}

/** The preamble, unless the header is damaged, which says how all else is known to be right. Then it is discarded. */
async function checkHead(store: Store): Promise<Uint8Array | undefined> {
  const [first, end] = [...store.kept][0] ?? [];
  if (first !== 0) return undefined;
  const preamble = new Uint8Array(Math.min(PREAMBLE_BYTES, end));
  const damaged = await damagedHead(store, preamble, end).catch(() => end);
  if (damaged === 0) return preamble;
  await store.discard(0, Math.min(damaged, end));
  return undefined;
}

/** How many of the first bytes are to be discarded. */
async function damagedHead(store: Store, preamble: Uint8Array<ArrayBuffer>, end: number): Promise<number> {
  await store.read(0, preamble);
  if (preamble.length < PREAMBLE_BYTES || integrityOf(preamble) !== store.integrity) return preamble.length;
  const head = new Uint8Array(PREAMBLE_BYTES + new DataView(preamble.buffer).getUint32(HEADER_BYTES_AT, true));
  if (head.length > end) return end;
  await store.read(0, head);
  const hashed = new Uint8Array([...head.subarray(0, HASH_AT), ...head.subarray(PREAMBLE_BYTES)]);
  const hash = await crypto.subtle.digest('SHA-256', hashed);
  return hex(new Uint8Array(hash, 0, HASH_BYTES)) === store.integrity ? 0 : head.length;
}
