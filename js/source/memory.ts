// Bytes that arrive in memory, whoever brings them.
import { McwcError } from '../errors.js';
import type { ArchiveOptions } from '../types.js';
import { Segments } from './segments.js';
import type { Source } from './source.js';

interface Waiter {
  start: number;
  end: number;
  resolve(): void;
  reject(error: unknown): void;
}

export class MemorySource implements Source {
  readonly complete: Promise<void>;
  #segments = new Segments();
  #expected: number | undefined;
  #ended = false;
  #error: unknown;
  #waiters: Waiter[] = [];
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(
    private total: number | undefined,
    private readonly onProgress: ArchiveOptions['onProgress'],
    private readonly cancel: (reason: unknown) => void = () => {},
  ) {
    this.complete = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.complete.catch(() => {});
  }

  /** How many bytes are here. */
  get loaded(): number {
    return this.#segments.held.size;
  }

  push(bytes: Uint8Array): void {
    if (this.#error || bytes.length === 0) return;
    this.#segments.write(this.loaded, bytes);
    if (!this.#check()) return;
    this.#waiters = this.#waiters.filter(({ start, end, resolve }) => !this.has(start, end - start) || resolve());
    this.onProgress?.({ loaded: this.loaded, total: this.total });
  }

  end(): void {
    this.#ended = true;
    this.#check();
  }

  expect(bytes: number): void {
    this.#expected = this.total = bytes;
    this.#check();
  }

  has(offset: number, bytes: number): boolean {
    return this.#segments.held.has(offset, offset + bytes);
  }

  available(offset: number, bytes: number): Promise<void> {
    if (this.#error) return Promise.reject(this.#error);
    if (this.has(offset, bytes)) return Promise.resolve();
    const end = offset + bytes;
    if (this.#ended) return Promise.reject(this.#incomplete(end));
    return new Promise((resolve, reject) => this.#waiters.push({ start: offset, end, resolve, reject }));
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await this.available(offset, target.length);
    this.readNow(offset, target);
  }

  readNow(offset: number, target: Uint8Array): void {
    if (this.#error) throw this.#error;
    if (!this.has(offset, target.length)) throw this.#incomplete(offset + target.length);
    this.#segments.read(offset, target);
  }

  async refetch(): Promise<boolean> {
    return false;
  }

  release(): void {}

  close(error: unknown): void {
    if (this.#error) return;
    this.#error = error;
    this.#segments.clear();
    this.#waiters.forEach(({ reject }) => reject(error));
    this.#waiters = [];
    this.#settle.reject(error);
    this.cancel(error);
  }

  /** Compares what has arrived with what the header promised. */
  #check(): boolean {
    if (this.#error) return false;
    if (this.#expected !== undefined && this.loaded > this.#expected) {
      this.close(new McwcError('invalid', 'invalid archive: bytes follow the last chunk'));
      return false;
    }
    if (this.#ended && this.#expected === undefined) {
      this.#waiters.forEach(({ end, reject }) => reject(this.#incomplete(end)));
      this.#waiters = [];
    } else if (this.#ended && this.loaded < this.#expected!) {
      // What is there can still be read.
      const error = this.#incomplete(this.#expected!);
      this.#waiters.forEach(({ reject }) => reject(error));
      this.#waiters = [];
      this.#settle.reject(error);
    } else if (this.loaded === this.#expected) {
      this.#settle.resolve();
    }
    return true;
  }

  #incomplete(needed: number): McwcError {
    return new McwcError('incomplete', `incomplete: ${needed} bytes are needed, there are ${this.loaded}`);
  }
}
