// Archives of models -> what transformers.js takes for a cache that has their files.
import type { Archive, ArchiveSource, OpenOptions } from '../index.js';
import { open } from '../index.js';

/** A cache as transformers.js has it in `env.customCache`. */
export interface ModelCache {
  match(request: string): Promise<any>;
  put(request: string, response: any, onProgress?: any): Promise<void>;
  delete?(request: string): Promise<boolean>;
}

/** What is needed of `env`, which `@huggingface/transformers` exports. */
export interface Environment {
  useCustomCache: boolean;
  customCache: any;
  useBrowserCache: boolean;
  cacheKey: string;
  localModelPath: string;
  remoteHost: string;
  remotePathTemplate: string;
}

/** What `enable` gives. */
export interface Enabled {
  /** Closes the archives that are open. One that is asked for again is opened again. */
  close(): void;
}

/** Suffixes of model files, the best weights first. */
const DTYPES = ['', '_fp16', '_quantized', '_int8', '_uint8', '_q4f16', '_q4', '_bnb4', '_q2f16', '_q2', '_q1f16', '_q1'];

/**
 * Has models of transformers.js come out of archives, by their names: `{ 'Xenova/all-MiniLM-L6-v2': '/minilm.mcwc' }`, each what
 * `open` takes. Files that are not in an archive, and other models, come from where they would have come from.
 */
export function enable(env: Environment, models: Record<string, ArchiveSource>, options: OpenOptions = {}): Enabled {
  const caches = Object.entries(models).map(([id, source]) => new ArchiveCache(env, id, source, options));
  const next = env.useCustomCache && env.customCache ? (env.customCache as ModelCache) : new BrowserCache(env);
  const cache: ModelCache = {
    async match(request) {
      for (const cache of caches) {
        const response = await cache.match(request);
        if (response) return response;
      }
      return next.match(request);
    },
    put: (request, response, onProgress) => next.put(request, response, onProgress),
    async delete(request) {
      const deleted = caches.map((cache) => cache.delete(request));
      return deleted.includes(true) || (await next.delete?.(request)) === true;
    },
  };
  Object.assign(env, { useCustomCache: true, customCache: cache });
  return { close: () => caches.forEach((cache) => cache.close()) };
}

/** The files of one model. */
class ArchiveCache {
  #archive: Promise<Archive> | undefined;
  /** Of its files. */
  #names: string[] = [];

  constructor(
    private readonly env: Environment,
    private readonly id: string,
    private readonly source: ArchiveSource,
    private readonly options: OpenOptions,
  ) {}

  async match(request: string): Promise<Response | undefined> {
    const path = this.#pathOf(request);
    if (path === undefined) return undefined;
    try {
      const archive = await this.#open();
      const name = nameOf(path, this.#names);
      if (name === undefined) return undefined;
      const file = archive.file(name);
      // A body that nobody reads decodes nothing.
      return withErrors(file.response(), file.size);
    } catch (error) {
      // A cache that throws counts as one that has no such file, and then the original would be downloaded.
      return withErrors(new Response(new ReadableStream({ pull: (controller) => controller.error(error) })), 0);
    }
  }

  /** Whether there was such a file: of an archive that has been opened, whatever has become of it. */
  delete(request: string): boolean {
    const path = this.#pathOf(request);
    if (path === undefined || nameOf(path, this.#names) === undefined) return false;
    this.close();
    return true;
  }

  close(): void {
    this.#archive?.then((archive) => archive.close(), () => {});
    this.#archive = undefined;
  }

  #open(): Promise<Archive> {
    if (this.#archive) return this.#archive;
    const opening = open(this.source, { backend: 'cpu', ...this.options });
    this.#archive = opening;
    opening.then(
      ({ files }) => (this.#names = files.map(({ name }) => name)),
      () => this.#archive === opening && (this.#archive = undefined),
    );
    return opening;
  }

  /** The path of a file of this model, of any revision. */
  #pathOf(request: string): string | undefined {
    const { localModelPath, remoteHost, remotePathTemplate } = this.env;
    const [before, after] = joined(remoteHost, remotePathTemplate.replaceAll('{model}', this.id)).split('{revision}');
    const prefixes = [`${this.id}/`, `${joined(localModelPath, this.id)}/`];
    const prefix = prefixes.find((prefix) => request.startsWith(prefix));
    if (prefix !== undefined) return request.slice(prefix.length);
    if (!request.startsWith(before)) return undefined;
    if (after === undefined) return request.slice(before.length);
    const end = request.indexOf(after, before.length);
    return end < 0 ? undefined : request.slice(end + after.length);
  }
}

/** What transformers.js uses unless told otherwise. */
class BrowserCache implements ModelCache {
  constructor(private readonly env: Environment) {}

  async match(request: string): Promise<Response | undefined> {
    return (await this.#open())?.match(request);
  }

  async put(request: string, response: Response): Promise<void> {
    await (await this.#open())?.put(request, response);
  }

  async delete(request: string): Promise<boolean> {
    return (await (await this.#open())?.delete(request)) ?? false;
  }

  async #open(): Promise<Cache | undefined> {
    return this.env.useBrowserCache ? globalThis.caches?.open(this.env.cacheKey).catch(() => undefined) : undefined;
  }
}

/** Its body is read by hand, as browsers say nothing of what a stream failed for. */
function withErrors(response: Response, bytes: number): Response {
  const arrayBuffer = async () => {
    const whole = new Uint8Array(bytes);
    const reader = response.body!.getReader();
    for (let at = 0; ; ) {
      const { done, value } = await reader.read();
      if (done) return whole.buffer;
      whole.set(value, at);
      at += value.length;
    }
  };
  return Object.defineProperty(response, 'arrayBuffer', { value: arrayBuffer });
}

/**
 * The name of the file at a path: the whole path, or its end where single files were packed. A model's file stands for those of other
 * data types, as runtimes take whatever types a model has.
 */
function nameOf(path: string, names: readonly string[]): string | undefined {
  const found = (path: string) => [path, path.slice(path.lastIndexOf('/') + 1)].find((name) => names.includes(name));
  const [, base, extension] = /^(.*?)(\.onnx(?:_data(?:_\d+)?)?)$/.exec(path) ?? [];
  const paths = base === undefined ? [] : DTYPES.map((dtype) => `${withoutDtype(base)}${dtype}${extension}`);
  return [path, ...paths].map(found).find((name) => name !== undefined);
}

function withoutDtype(base: string): string {
  const dtype = DTYPES.find((dtype) => dtype !== '' && base.endsWith(dtype)) ?? '';
  return base.slice(0, base.length - dtype.length);
}

function joined(folder: string, name: string): string {
  return `${folder.replace(/\/$/, '')}/${name.replace(/^\//, '')}`;
}
