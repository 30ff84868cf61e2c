// A file on a server -> memory, only what is asked for: neighbouring ranges together, a few requests at a time. Where the server
// knows no ranges, the whole.
import { nextTurn } from '../platform.js';
import { Attempts } from './attempts.js';
import { Download } from './download.js';
import { type Range, Ranges } from './ranges.js';

/** Fetched at first, to have the header: a request more takes longer than these bytes. */
const FIRST_BYTES = 32 << 10;
/** Bytes between two ranges that take less time than another request. */
const GAP_BYTES = 32 << 10;
/** Above this, ranges are not put together, so that they can come at the same time. */
const REQUEST_BYTES = 4 << 20;
const REQUESTS_AT_ONCE = 4;

export class LazyDownload extends Download {
  #wanted = new Ranges();
  /** What has been wanted, and not failed. */
  #asked = new Ranges();
  #queue: Range[] = [];
  #running = 0;
  #isWhole = false;

  want(start: number, end: number): void {
    const isFirst = this.#wanted.size === 0;
    for (const [first, last] of this.#asked.missing(start, end)) this.#wanted.add(first, last);
    this.#asked.add(start, end);
    if (isFirst && this.#wanted.size > 0) nextTurn().then(() => this.#enqueue());
  }

  #enqueue(): void {
    for (const [start, end] of this.#wanted) {
      const last = this.#queue.at(-1);
      if (last && last[1] <= start && start - last[1] <= GAP_BYTES && end - last[0] <= REQUEST_BYTES) last[1] = end;
      else this.#queue.push([start, end]);
    }
    this.#wanted.clear();
    this.#next();
  }

  #next(): void {
    while (this.#running < REQUESTS_AT_ONCE && this.#queue.length > 0 && !this.#isWhole) this.#fetch(this.#queue.shift()!);
  }

  async #fetch([start, end]: Range): Promise<void> {
    this.#running++;
    const attempts = new Attempts(this.file, this.retrying);
    while (!this.#isWhole && this.memory.missing(start, end).length > 0) {
      try {
        await this.#receive(start, end, attempts);
      } catch (error) {
        try {
          await attempts.next(error);
        } catch (failure) {
          this.#asked.remove(start, end);
          this.memory.reject(start, end, failure);
          break;
        }
      }
    }
    this.#running--;
    this.#next();
  }

  async #receive(start: number, end: number, attempts: Attempts): Promise<void> {
    await this.memory.opened();
    const [[from] = []] = this.memory.missing(start, end);
    if (from === undefined) return;
    const first = from === 0 ? 0 : from;
    const last = first === 0 ? Math.max(end, FIRST_BYTES) : end;
    const answer = this.file.read(first, last);
    for (;;) {
      const { value: part } = await answer.next();
      if (!part) break;
      if (this.keep(part) > 0) attempts.succeeded();
      if (!part.isWhole) continue;
      this.#isWhole = true;
      this.run(answer);
      return;
    }
    if (this.memory.missing(start, end).length > 0) throw this.endedEarly();
  }
}
