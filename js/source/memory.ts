// Bytes that arrive in memory, whoever brings them.
import { McwcError } from '../errors.js';
import type { Progress } from '../types.js';
import type { Range } from './ranges.js';
import { type Bytes, Segments } from './segments.js';
import { PREAMBLE_BYTES, type Source } from './source.js';

export type Report = (progress: Omit<Progress, 'decoded'>) => void;

/** What brings them. */
export interface Supply {
  /** Tells that bytes are waited for. */
  want?(start: number, end: number): void;
  /** Whether bytes may be dropped; if they can be had again, that is true. */
  release?(start: number, end: number): boolean;
  /** Has bytes that proved damaged once more; false if they cannot be had. */
  refetch?(start: number, end: number): Promise<boolean>;
  close(error: unknown): void;
}

const DROPPED = 'read, and not kept';

interface Waiter {
  start: number;
  end: number;
  resolve(): void;
  reject(error: unknown): void;
}

export class MemorySource implements Source {
  readonly complete: Promise<void>;
  supply: Supply | undefined;
  /** Length of the archive, as whoever brings it says, or better its header. */
  #total: number | undefined;
  #expected: number | undefined;
  #reported: Omit<Progress, 'decoded'> | undefined;
  /** Why what is not here will not come. */
  #failure: unknown;
  #closed: unknown;
  #waiters: Waiter[] = [];
  #onWanted = () => {};
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  /** `readOnce`: whether bytes are dropped even if they cannot be had again. */
  constructor(
    private readonly report: Report,
    private readonly readOnce = false,
    readonly bytes: Bytes = new Segments(),
  ) {
    bytes.onGrowth = () => this.#arrived('cache');
    this.complete = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.complete.catch(() => {});
  }

  get heldBytes(): number {
    return this.bytes.inMemory.size;
  }

  /** Whether everything has arrived. */
  get isFull(): boolean {
    return this.bytes.arrived.size === this.#expected;
  }

  /** Whether nothing is missing: everything has arrived, and what was let go is not wanted again. */
  get isComplete(): boolean {
    return this.#expected !== undefined && this.missing().length === 0;
  }

  /** What of a range is not here. */
  missing(start = 0, end = this.#expected ?? Infinity): Range[] {
    return this.bytes.missing(start, end);
  }

  /** Resolves when it is known whether more is needed than there is. */
  async wanted(): Promise<void> {
    while (this.#expected === undefined && this.#waiters.length === 0) {
      await new Promise<void>((resolve) => (this.#onWanted = resolve));
    }
  }

  /** Resolves when it is known whether anything is missing, and nobody else fetches it. */
  async turn(): Promise<void> {
    if (!this.bytes.turn) return;
    await this.bytes.turn();
    if (this.has(0, PREAMBLE_BYTES)) await this.wanted();
  }

  /** Keeps bytes, but for those that are here; says how many are new. */
  write(offset: number, bytes: Uint8Array, from: Progress['from'], total?: number): number {
    if (this.#closed) return 0;
    if (this.#expected === undefined) this.#total = total ?? this.#total;
    const added = this.bytes.write(offset, bytes);
    this.#arrived(from);
    return added;
  }

  /** Tells that no more will come, and why if that is not as it should be. */
  end(failure: unknown = this.incomplete()): void {
    this.#failure = failure;
    this.bytes.rest?.();
    this.#check();
    this.reject(0, Infinity, failure);
    if (this.#expected !== undefined) this.#settle.reject(failure);
  }

  /** Fails those who wait for these bytes. */
  reject(start: number, end: number, error: unknown): void {
    const concerned = (waiter: Waiter) => waiter.start < end && start < waiter.end;
    const rejected = this.#waiters.filter(concerned);
    this.#waiters = this.#waiters.filter((waiter) => !concerned(waiter));
    rejected.forEach(({ reject }) => reject(error));
  }

  expect(bytes: number): void {
    this.#expected = this.#total = bytes;
    this.bytes.expect?.(bytes);
    if (!this.#check()) return;
    if (this.#failure) this.#settle.reject(this.#failure);
    this.#tell(this.#reported?.from ?? 'memory');
    this.#onWanted();
  }

  has(offset: number, bytes: number): boolean {
    return this.bytes.held.has(offset, offset + bytes);
  }

  available(offset: number, bytes: number): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closed);
    if (this.has(offset, bytes)) return Promise.resolve();
    const end = offset + bytes;
    const { dropped } = this.bytes;
    if (dropped.overlaps(offset, end)) {
      if (!this.supply?.want) return Promise.reject(new McwcError('argument', DROPPED));
      dropped.remove(offset, end);
    } else if (this.#failure) {
      return Promise.reject(this.#failure);
    }
    const arrived = new Promise<void>((resolve, reject) => this.#waiters.push({ start: offset, end, resolve, reject }));
    this.supply?.want?.(offset, end);
    this.#onWanted();
    return arrived;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    do await this.available(offset, target.length);
    while (!this.has(offset, target.length));
    const { bytes } = this;
    if (!bytes.load) return bytes.read(offset, target);
    try {
      await bytes.load(offset, target);
    } catch (error) {
      if (!(await this.refetch(offset, target.length))) throw error;
      await bytes.load(offset, target);
    }
  }

  async refetch(offset: number, bytes: number): Promise<boolean> {
    return (await this.supply?.refetch?.(offset, offset + bytes)) ?? false;
  }

  release(offset: number, bytes: number): void {
    const end = offset + bytes;
    if (!this.has(offset, bytes) || !(this.supply?.release?.(offset, end) ?? this.readOnce)) return;
    this.bytes.drop(offset, end);
  }

  close(error: unknown): void {
    if (this.#closed) return;
    this.#closed = error;
    this.bytes.clear();
    this.reject(0, Infinity, error);
    this.#settle.reject(error);
    this.supply?.close(error);
  }

  incomplete(): McwcError {
    const of = this.#total === undefined ? '' : ` of ${this.#total}`;
    return new McwcError('incomplete', `incomplete: there are ${this.bytes.arrived.size} bytes${of}`);
  }

  #arrived(from: Progress['from']): void {
    if (!this.#check()) return;
    this.#waiters = this.#waiters.filter(({ start, end, resolve }) => !this.has(start, end - start) || resolve());
    this.#tell(from);
  }

  /** Compares what has arrived with what the header promised. */
  #check(): boolean {
    if (this.#closed) return false;
    if (this.bytes.arrived.size > this.#expected!) {
      this.close(new McwcError('invalid', 'invalid archive: bytes follow the last chunk'));
      return false;
    }
    if (this.isFull) this.#settle.resolve();
    return true;
  }

  /** Every state once, and the end only when the header has confirmed it, so that it comes once. */
  #tell(from: Progress['from']): void {
    const { size: loaded } = this.bytes.arrived;
    if (loaded === this.#total && !this.isFull) return;
    if (this.#reported?.loaded === loaded && this.#reported.total === this.#total) return;
    this.#reported = { loaded, total: this.#total, from };
    this.report(this.#reported);
  }
}
