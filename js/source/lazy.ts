// A file on a server -> memory, only what is asked for: neighbouring ranges together, a few requests at a time. Where the server
// knows no ranges, the whole. Loaded only where bytes have to be fetched by ranges, as damaged ones have.
import { nextTurn } from '../platform.js';
import type { Attempts } from './attempts.js';
import type { Download } from './download.js';
import type { Supply } from './memory.js';
import { type Range, Ranges } from './ranges.js';
import type { Part } from './remote.js';

/** Fetched at first, to have the header: a second request takes longer than these bytes. */
const FIRST_BYTES = 32 << 10;
/** Bytes between two ranges that take less time than another request. */
const GAP_BYTES = 32 << 10;
/** Above this, ranges are not put together, so that they can come at the same time. */
const REQUEST_BYTES = 4 << 20;
const REQUESTS_AT_ONCE = 4;

export class LazyRanges implements Supply {
  #wanted = new Ranges();
  /** What has been wanted, and has not failed. */
  #asked = new Ranges();
  #queue: Range[] = [];
  #running = 0;
  /** Whether everything is being downloaded. */
  #isWhole = false;
  /** Whether that was the answer to a range, so that it costs as much to have a byte again. */
  #ignoresRanges = false;

  /** `isStreamed`: whether the download brings everything, and only what was dropped is fetched by ranges. */
  constructor(
    private readonly download: Download,
    isStreamed: boolean,
  ) {
    if (isStreamed) this.#asked.add(0, Infinity);
  }

  want(start: number, end: number): void {
    const isFirst = this.#wanted.size === 0;
    for (const [first, last] of this.#asked.missing(start, end)) this.#wanted.add(first, last);
    this.#asked.add(start, end);
    if (isFirst && this.#wanted.size > 0) nextTurn().then(() => this.#enqueue());
  }

  release(start: number, end: number): boolean {
    if (!this.#ignoresRanges) this.#asked.remove(start, end);
    return !this.#ignoresRanges;
  }

  refetch(start: number, end: number): Promise<boolean> {
    return fetchAgain(this.download, start, end);
  }

  close(error: unknown): void {
    this.download.close(error);
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
    const { memory } = this.download;
    const attempts = this.download.attempts();
    this.#running++;
    while (!this.#isWhole && memory.missing(start, end).length > 0) {
      try {
        await this.#receive(start, end, attempts);
      } catch (error) {
        try {
          await attempts.next(error);
        } catch (failure) {
          this.#asked.remove(start, end);
          memory.reject(start, end, failure);
          break;
        }
      }
    }
    this.#running--;
    this.#next();
  }

  async #receive(start: number, end: number, attempts: Attempts): Promise<void> {
    const { download } = this;
    const { file, memory } = download;
    await memory.bytes.opened?.();
    const [[first] = []] = memory.missing(start, end);
    if (first === undefined) return;
    const answer = file.read(first, first === 0 ? Math.max(end, FIRST_BYTES) : end);
    for (;;) {
      const { value: part } = await answer.next();
      if (!part) break;
      // All of it is kept then, what was let go too: it costs no more.
      if (part.isWhole) memory.bytes.dropped.clear();
      download.keep(part, attempts);
      if (!part.isWhole) continue;
      this.#isWhole = this.#ignoresRanges = true;
      return void this.#run(answer);
    }
    if (memory.missing(start, end).length > 0) throw download.endedEarly();
  }

  async #run(answer: AsyncGenerator<Part>): Promise<void> {
    if (this.download.running) await answer.return(undefined);
    await this.download.run(answer);
    this.#isWhole = false;
    this.#next();
  }
}

/** Has bytes that proved damaged once more; false if they cannot be had. */
export async function fetchAgain(download: Download, start: number, end: number): Promise<boolean> {
  const { file, memory } = download;
  if (!file.canRestart) return false;
  if (start === 0) file.preamble = undefined;
  try {
    const fresh = await fetchAlone(download, start, end);
    if (file.signal.aborted) return false;
    if (fresh) memory.bytes.replace(start, fresh);
    else await fetchWithAll(download, start, end);
  } catch {
    return false;
  }
  return memory.has(start, end - start);
}

/** Undefined if only the whole can be had. */
async function fetchAlone(download: Download, start: number, end: number): Promise<Uint8Array | undefined> {
  const attempts = download.attempts();
  while (download.file.canSeek || start === 0) {
    try {
      return await again(download, start, end);
    } catch (error) {
      await attempts.next(error);
    }
  }
  return undefined;
}

/** In a download of everything, which brings all else that is missing by then. */
async function fetchWithAll(download: Download, start: number, end: number): Promise<void> {
  const { file, memory } = download;
  // Its answers would end before what they have already brought.
  await download.running;
  await memory.bytes.remove(start, end);
  const running = download.run(file.read(0, undefined, 'reload'));
  await memory.available(start, end - start).catch(() => running);
}

/** Past the HTTP cache, in which they may be as damaged. */
async function again(download: Download, start: number, end: number): Promise<Uint8Array | undefined> {
  const target = new Uint8Array(end - start);
  let filled = 0;
  for await (const { bytes, isWhole } of download.file.read(start, end, 'reload')) {
    if (isWhole && start > 0) return undefined;
    const part = bytes.subarray(0, target.length - filled);
    target.set(part, filled);
    filled += part.length;
    if (filled === target.length) return target;
  }
  throw download.endedEarly();
}
