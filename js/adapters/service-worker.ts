// In a service worker: requests of the pages it controls -> files of archives, decoded on its thread as they are read.
import { type Archive, McwcError, type OpenOptions, open } from '../index.js';

/** What `open` takes, but for what a service worker does not have: it starts no workers and imports nothing later. */
export type ServeOptions = Omit<OpenOptions, 'backend' | 'device' | 'gpuWasmUrl' | 'gpuWorkerUrl' | 'signal' | 'workers' | 'workerUrl'>;

interface ExtendableEvent extends Event {
  waitUntil(promise: Promise<unknown>): void;
}

interface FetchEvent extends ExtendableEvent {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}

interface Scope {
  readonly location: { readonly href: string };
  readonly clients?: { claim(): Promise<void> };
  addEventListener(type: 'activate', listener: (event: ExtendableEvent) => void): void;
  addEventListener(type: 'fetch', listener: (event: FetchEvent) => void): void;
}

/**
 * Answers requests below each prefix, which ends with a slash and may be of another origin, with the files of an archive. What an
 * archive does not have is left to the network. To be called while the service worker starts.
 */
export function serve(archives: Record<string, string | URL>, options: ServeOptions = {}): void {
  const scope = globalThis as unknown as Scope;
  const { clients, location } = scope;
  if (!clients) throw new McwcError('argument', 'serve is for service workers');
  const routes = Object.entries(archives).map(([prefix, archive]) => {
    if (!prefix.endsWith('/')) throw new McwcError('argument', `the prefix ${prefix} has to end with a slash`);
    return new Route(new URL(prefix, location.href).href, new URL(archive, location.href).href, options);
  });
  routes.sort((a, b) => b.prefix.length - a.prefix.length);
  scope.addEventListener('fetch', (event) => {
    const { method, url } = event.request;
    const route = routes.find(({ prefix }) => url.startsWith(prefix));
    const name = route && nameIn(route.prefix, url);
    if (!name || (method !== 'GET' && method !== 'HEAD')) return;
    // A body that is still read would not keep the service worker alive.
    event.waitUntil(new Promise<void>((finish) => event.respondWith(route.answer(event.request, name, finish))));
  });
  // Pages that were open before would have to be loaded again.
  scope.addEventListener('activate', (event) => event.waitUntil(clients.claim()));
}

/** Nothing if the address is not well formed. */
function nameIn(prefix: string, url: string): string | undefined {
  const [path] = url.slice(prefix.length).split(/[?#]/);
  try {
    return decodeURIComponent(path);
  } catch {
    return undefined;
  }
}

class Route {
  #archive: Promise<Archive> | undefined;

  constructor(
    readonly prefix: string,
    private readonly url: string,
    private readonly options: ServeOptions,
  ) {}

  /** Calls `finish` when nothing more will be read. */
  async answer(request: Request, name: string, finish: () => void): Promise<Response> {
    try {
      const archive = await this.#opened();
      if (archive.files.some((file) => file.name === name)) return await answerFrom(archive, name, request, finish);
    } catch (error) {
      finish();
      return this.#failure(error, request);
    }
    finish();
    return fetch(request);
  }

  /** Opened once; tried again after a failure. */
  #opened(): Promise<Archive> {
    if (this.#archive) return this.#archive;
    const archive = open(this.url, { ...this.options, backend: 'cpu', workers: 0 });
    const forget = () => {
      if (this.#archive === archive) this.#archive = undefined;
    };
    archive.then(({ downloaded }) => downloaded).catch(forget);
    return (this.#archive = archive);
  }

  #failure(error: unknown, { method }: Request): Response {
    const { code = 'io', message } = error as Partial<McwcError>;
    const address = message?.includes(this.url) ? '' : `${this.url}: `;
    const text = `${address}${message} (${code})\n`;
    console.error(text.trimEnd());
    const headers = { 'content-type': 'text/plain; charset=utf-8', 'cache-control': 'no-store' };
    return new Response(method === 'HEAD' ? null : text, { status: 502, statusText: 'Bad Gateway', headers });
  }
}

async function answerFrom(archive: Archive, name: string, { method, headers: asked }: Request, finish: () => void): Promise<Response> {
  const file = archive.file(name);
  const { size } = file;
  const { headers } = file.response();
  const etag = `"${archive.integrity}"`;
  headers.set('accept-ranges', 'bytes');
  headers.set('etag', etag);
  headers.set('x-content-type-options', 'nosniff');
  const isCurrent = (asked.get('if-range') ?? etag) === etag;
  const range = method === 'GET' && isCurrent ? rangeOf(asked.get('range'), size) : undefined;
  const { start, end } = range ?? { start: 0, end: size };
  if (range && start >= end) {
    finish();
    headers.set('content-range', `bytes */${size}`);
    headers.delete('content-length');
    return new Response(null, { status: 416, headers });
  }
  headers.set('content-length', String(end - start));
  if (range) headers.set('content-range', `bytes ${start}-${end - 1}/${size}`);
  const body = method === 'HEAD' ? null : await bodyOf(file.stream(start, end), finish);
  if (!body) finish();
  return new Response(body, { status: range ? 206 : 200, headers });
}

/** Undefined for none, for several, and for what is no range: all are answered with the whole. Empty if it is not in the file. */
function rangeOf(header: string | null, size: number): { start: number; end: number } | undefined {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (!first && !last) return undefined;
  if (!first) return { start: Math.max(0, size - Number(last)), end: size };
  if (last && Number(last) < Number(first)) return undefined;
  return { start: Number(first), end: last ? Math.min(Number(last) + 1, size) : size };
}

/** The stream once its first bytes are there: what fails until then can still be answered. */
async function bodyOf(stream: ReadableStream<Uint8Array>, finish: () => void): Promise<ReadableStream<Uint8Array>> {
  const reader = stream.getReader();
  let first: ReadableStreamReadResult<Uint8Array> | undefined = await reader.read();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = first ?? (await reader.read());
        first = undefined;
        if (!done) return controller.enqueue(value);
        controller.close();
        finish();
      } catch (error) {
        console.error(error);
        finish();
        throw error;
      }
    },
    async cancel(reason) {
      finish();
      await reader.cancel(reason);
    },
  });
}
