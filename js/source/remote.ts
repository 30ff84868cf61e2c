// One file on a server -> its bytes from any offset on, in order, until an answer ends or something is wrong with it.
import { type ErrorCode, McwcError } from '../errors.js';
import { unlessAborted } from '../platform.js';
import { foundInstead, isArchive } from '../found.js';
import { PREAMBLE_BYTES } from './source.js';

/** What may go better the next time. */
export class Interruption extends Error {
  constructor(
    readonly failure: McwcError,
    /** How long the server asks to wait. */
    readonly waitMs = 0,
  ) {
    super(failure.message);
  }
}

interface Answer {
  /** Where it begins. */
  offset: number;
  /** Whether it is the whole file, whatever was asked for. */
  isWhole: boolean;
  /** Length of the file, if it says so. */
  total: number | undefined;
}

export interface Part extends Answer {
  bytes: Uint8Array;
}

/** Timeout, too early, too often: what another time may be answered otherwise, besides the server's own troubles. */
const TRANSIENT = [408, 425, 429];
/** After so many wrong answers in a row to ranges, only the whole file is asked for. */
const MISSES_MAX = 2;

export class RemoteFile {
  /** Whether the server has ever answered. */
  isAnswered: boolean;
  #closed = new AbortController();
  #request: Request | undefined;
  #first: Response | undefined;
  /** They hold the hash of the header, which holds those of all else: with these bytes equal, it is the same archive. */
  preamble: Uint8Array | undefined;
  #etag: string | undefined;
  #modified: string | undefined;
  /** Whether answers are compressed on the way: then the server's offsets are others. */
  #isEncoded = false;
  #isCrossOrigin = false;
  #misses = 0;

  /** `silenceMs`: how long the server may say nothing. */
  constructor(
    source: Request | Response,
    private readonly silenceMs: number,
  ) {
    this.isAnswered = source instanceof Response;
    if (source instanceof Request) this.#request = source;
    else this.#first = source;
    if (this.#first?.status === 200 && this.#first.url) this.#request = new Request(this.#first.url);
  }

  /** Aborted by `close`. */
  get signal(): AbortSignal {
    return this.#closed.signal;
  }

  get canRestart(): boolean {
    return this.#request?.method === 'GET' && !this.#request.headers.has('range');
  }

  get canSeek(): boolean {
    return this.canRestart && !this.#isEncoded && this.#misses < MISSES_MAX;
  }

  /** Ends all reading, with this error. */
  close(error: unknown): void {
    this.#closed.abort(error);
  }

  /** The bytes from `start` on, or those of the whole file. Throws `Interruption`, or why no other attempt would help. */
  async *read(start: number, end?: number, cache?: RequestCache): AsyncGenerator<Part> {
    const controller = new AbortController();
    const onClose = () => controller.abort(this.signal.reason);
    this.signal.addEventListener('abort', onClose);
    const inTime = async <T>(promise: Promise<T>): Promise<T> => {
      const silent = () => controller.abort(new Error(`silent for ${this.silenceMs} ms`));
      // What came while this thread was busy is looked at before that is said.
      let timer = setTimeout(() => (timer = setTimeout(silent)), this.silenceMs);
      try {
        return await unlessAborted(promise, controller.signal);
      } finally {
        clearTimeout(timer);
      }
    };
    let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
    try {
      this.signal.throwIfAborted();
      const ranged = this.canSeek && (start > 0 || end !== undefined);
      const response = this.#takeFirst() ?? (await inTime(this.#ask(ranged ? [start, end] : undefined, cache, controller.signal)));
      reader = response.body?.getReader();
      const answer = await this.#judge(response, start, ranged);
      const next = async () => reader && (await inTime(reader.read())).value;
      let bytes = answer.offset > 0 ? await next() : await this.#begin(response, next);
      for (; bytes; bytes = await next()) {
        yield { ...answer, bytes };
        answer.offset += bytes.length;
      }
    } catch (error) {
      this.signal.throwIfAborted();
      if (error instanceof McwcError || error instanceof Interruption) throw error;
      throw new Interruption(this.error('io', (error as Error).message, error));
    } finally {
      this.signal.removeEventListener('abort', onClose);
      controller.abort();
      reader?.cancel().catch(() => {});
    }
  }

  #takeFirst(): Response | undefined {
    const first = this.#first;
    if (this.#request) this.#first = undefined;
    return first;
  }

  #ask(range: [start: number, end: number | undefined] | undefined, cache: RequestCache | undefined, signal: AbortSignal) {
    const { headers: given } = this.#request!;
    const headers = new Headers(given);
    if (range) {
      const [start, end] = range;
      headers.set('range', `bytes=${start}-${end === undefined ? '' : end - 1}`);
      const validator = this.#etag?.startsWith('"') ? this.#etag : this.#modified;
      // Another origin would first have to be asked whether it takes this header.
      if (start > 0 && validator && !this.#isCrossOrigin) headers.set('if-range', validator);
    }
    return fetch(this.#request!, { headers, signal, cache });
  }

  async #judge(response: Response, start: number, ranged: boolean): Promise<Answer> {
    const { status, headers, url } = response;
    const { location } = globalThis;
    this.isAnswered = true;
    this.#isCrossOrigin = !!location && !!url && new URL(url).origin !== location.origin;
    const isEncoded = headers.has('content-encoding');
    // Another origin need not show the header.
    const [, first, length] = /^bytes (\d+)-\d+\/(\d*)/.exec(headers.get('content-range') ?? '') ?? [];
    if (status === 206 && ranged) {
      const isHidden = !headers.has('content-range') && this.#isCrossOrigin;
      if (isEncoded || (Number(first) !== start && !isHidden)) throw this.#miss('another range than the one asked for');
      this.#misses = 0;
      if (start > 0 && !this.#isSame(headers)) await this.#identify();
      return { offset: start, isWhole: false, total: length ? Number(length) : undefined };
    }
    if (status === 416) {
      const [, length] = /^bytes \*\/(\d+)/.exec(headers.get('content-range') ?? '') ?? [];
      if (Number(length) <= start) throw this.error('incomplete', `incomplete: it ends after ${length} bytes`);
      throw this.#miss('HTTP 416');
    }
    if (!response.ok) {
      const type = headers.get('content-type');
      const failure = this.error('io', `HTTP ${status}${type ? ` (${type})` : ''}`);
      throw status >= 500 || TRANSIENT.includes(status) ? new Interruption(failure, waitMsOf(headers)) : failure;
    }
    this.#isEncoded = isEncoded;
    const announced = isEncoded ? null : headers.get('content-length');
    return { offset: 0, isWhole: true, total: announced === null ? undefined : Number(announced) };
  }

  #miss(message: string): Interruption {
    this.#misses++;
    return new Interruption(this.error('io', message));
  }

  #isSame(headers: Headers): boolean {
    const { etag, modified } = validatorsOf(headers);
    return etag && this.#etag ? etag === this.#etag : !!modified && modified === this.#modified;
  }

  /** Throws if it is another file by now. */
  async #identify(): Promise<void> {
    for await (const _ of this.read(0, PREAMBLE_BYTES, 'no-store')) return;
  }

  /** The first bytes, once there are enough to see that they are those of the archive. */
  async #begin(response: Response, next: () => Promise<Uint8Array | undefined>): Promise<Uint8Array | undefined> {
    let begin = new Uint8Array();
    for (let bytes; begin.length < PREAMBLE_BYTES && (bytes = await next()); ) {
      const joined = new Uint8Array(begin.length + bytes.length);
      joined.set(begin);
      joined.set(bytes, begin.length);
      begin = joined;
    }
    if (!isArchive(begin)) {
      const { status, headers } = response;
      const type = headers.get('content-type');
      const message = `${foundInstead(begin, type)} instead of an archive (HTTP ${status}, ${type ?? 'no content type'})`;
      const failure = this.error(begin.length > 0 ? 'invalid' : 'incomplete', message);
      throw this.preamble ? new Interruption(failure) : failure;
    }
    if (begin.length < PREAMBLE_BYTES) return begin;
    if (this.preamble?.some((byte, at) => byte !== begin[at])) {
      throw this.error('changed', 'the file is another than before; open it again');
    }
    this.preamble = begin.slice(0, PREAMBLE_BYTES);
    const { etag, modified } = validatorsOf(response.headers);
    this.#etag = etag;
    this.#modified = modified;
    return begin;
  }

  error(code: ErrorCode, message: string, cause?: unknown): McwcError {
    const name = this.#request?.url || this.#first?.url || 'the response';
    return new McwcError(code, `${name}: ${message}`, { cause });
  }
}

function validatorsOf(headers: Headers): { etag: string | undefined; modified: string | undefined } {
  return { etag: headers.get('etag') ?? undefined, modified: headers.get('last-modified') ?? undefined };
}

function waitMsOf(headers: Headers): number {
  const after = headers.get('retry-after');
  if (!after) return 0;
  return Number.isNaN(Number(after)) ? Date.parse(after) - Date.now() || 0 : Number(after) * 1000;
}
