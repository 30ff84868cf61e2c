// Archive bytes from wherever they come, readable by range while they are still arriving.
import { McwcError } from './errors.js';
import { nodeModule } from './platform.js';
import type { ArchiveSource, ArchiveOptions } from './types.js';

export interface Source {
  /** Whether all bytes before `end` can be read now. */
  has(end: number): boolean;
  /** Resolves when all bytes before `end` can be read; rejects if they never will. */
  available(end: number): Promise<void>;
  /** Fills `target` with the bytes from `offset` on, waiting for them if need be. */
  read(offset: number, target: Uint8Array): Promise<void>;
  /** Tells the length that the header states. */
  expect(bytes: number): void;
  /** Settles when all bytes are there, or never will be. */
  readonly complete: Promise<void>;
  /** Drops the bytes and fails every later read. */
  close(error: unknown): void;
}

export async function openSource(source: ArchiveSource, { signal, onProgress }: ArchiveOptions): Promise<Source> {
  const node = nodeModule('node:fs');
  if (node && isAddress(source) && isPath(source)) source = await openFile(node, source);
  if (isAddress(source) || source instanceof Request) source = await request(source, signal);
  if (source instanceof Blob) return new BlobSource(source, onProgress);
  if (source instanceof ArrayBuffer) return segmentsOf(new Uint8Array(source), onProgress);
  if (ArrayBuffer.isView(source)) {
    return segmentsOf(new Uint8Array(source.buffer, source.byteOffset, source.byteLength), onProgress);
  }
  if (source instanceof Response) return fromResponse(source, onProgress);
  if (source instanceof ReadableStream) return fromStream(source, undefined, onProgress);
  throw new McwcError('argument', 'open takes an address, a Response, a Blob, bytes or a stream');
}

function isAddress(source: ArchiveSource): source is string | URL {
  return typeof source === 'string' || source instanceof URL;
}

function isPath(address: string | URL): boolean {
  return address instanceof URL ? address.protocol === 'file:' : !URL.canParse(address) || address.startsWith('file:');
}

async function openFile(fs: { openAsBlob(path: string | URL): Promise<Blob> }, path: string | URL): Promise<Blob> {
  try {
    return await fs.openAsBlob(typeof path === 'string' && path.startsWith('file:') ? new URL(path) : path);
  } catch (error) {
    throw new McwcError('io', `${path}: ${(error as Error).message}`, { cause: error });
  }
}

async function request(address: string | URL | Request, signal: AbortSignal | undefined): Promise<Response> {
  try {
    return await fetch(address, { signal });
  } catch (error) {
    signal?.throwIfAborted();
    const name = address instanceof Request ? address.url : address;
    throw new McwcError('io', `${name}: ${(error as Error).message}`, { cause: error });
  }
}

function fromResponse(response: Response, onProgress: ArchiveOptions['onProgress']): Source {
  if (!response.ok) throw new McwcError('io', `${response.url}: HTTP ${response.status}`);
  if (!response.body || response.bodyUsed) throw new McwcError('argument', 'the response has no unread body');
  // Behind a Content-Encoding the announced length is not the archive's.
  const announced = response.headers.has('content-encoding') ? null : response.headers.get('content-length');
  return fromStream(response.body, announced === null ? undefined : Number(announced), onProgress);
}

function segmentsOf(bytes: Uint8Array, onProgress: ArchiveOptions['onProgress']): Source {
  const source = new SegmentSource(bytes.length, onProgress);
  source.push(bytes);
  source.end();
  return source;
}

function fromStream(
  stream: ReadableStream<Uint8Array>,
  total: number | undefined,
  onProgress: ArchiveOptions['onProgress'],
): Source {
  if (stream.locked) throw new McwcError('argument', 'the stream is locked to another reader');
  const reader = stream.getReader();
  const source = new SegmentSource(total, onProgress, (reason) => reader.cancel(reason).catch(() => {}));
  const pump = async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return source.end();
      source.push(value);
    }
  };
  pump().catch((error) => source.close(error instanceof McwcError ? error : new McwcError('io', `the download failed: ${error.message}`, { cause: error })));
  return source;
}

/** Bytes in memory, as the segments in which they arrived. */
class SegmentSource implements Source {
  readonly complete: Promise<void>;
  #segments: Uint8Array[] = [];
  #starts: number[] = [];
  #loaded = 0;
  #expected: number | undefined;
  #ended = false;
  #error: unknown;
  #waiters: { end: number; resolve: () => void; reject: (error: unknown) => void }[] = [];
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(
    private total: number | undefined,
    private readonly onProgress: ArchiveOptions['onProgress'],
    private readonly cancel: (reason: unknown) => void = () => {},
  ) {
    this.complete = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.complete.catch(() => {});
  }

  push(segment: Uint8Array): void {
    if (this.#error || segment.length === 0) return;
    this.#segments.push(segment);
    this.#starts.push(this.#loaded);
    this.#loaded += segment.length;
    if (!this.#check()) return;
    this.#waiters = this.#waiters.filter(({ end, resolve }) => end > this.#loaded || resolve());
    this.onProgress?.({ loaded: this.#loaded, total: this.total });
  }

  end(): void {
    this.#ended = true;
    this.#check();
  }

  expect(bytes: number): void {
    this.#expected = this.total = bytes;
    this.#check();
  }

  has(end: number): boolean {
    return end <= this.#loaded;
  }

  available(end: number): Promise<void> {
    if (this.#error) return Promise.reject(this.#error);
    if (this.has(end)) return Promise.resolve();
    if (this.#ended) return Promise.reject(this.#incomplete(end));
    return new Promise((resolve, reject) => this.#waiters.push({ end, resolve, reject }));
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await this.available(offset + target.length);
    let index = this.#segmentAt(offset);
    for (let at = 0; at < target.length; index++) {
      const segment = this.#segments[index];
      const from = offset + at - this.#starts[index];
      const part = segment.subarray(from, from + target.length - at);
      target.set(part, at);
      at += part.length;
    }
  }

  close(error: unknown): void {
    if (this.#error) return;
    this.#error = error;
    this.#segments = [];
    this.#waiters.forEach(({ reject }) => reject(error));
    this.#waiters = [];
    this.#settle.reject(error);
    this.cancel(error);
  }

  /** Compares what has arrived with what the header promised. */
  #check(): boolean {
    if (this.#error) return false;
    if (this.#expected !== undefined && this.#loaded > this.#expected) {
      this.close(new McwcError('invalid', 'invalid archive: bytes follow the last chunk'));
      return false;
    }
    if (this.#ended && this.#expected === undefined) {
      this.#waiters.forEach(({ end, reject }) => reject(this.#incomplete(end)));
      this.#waiters = [];
    } else if (this.#ended && this.#loaded < this.#expected!) {
      // What is there can still be read.
      const error = this.#incomplete(this.#expected!);
      this.#waiters.forEach(({ reject }) => reject(error));
      this.#waiters = [];
      this.#settle.reject(error);
    } else if (this.#loaded === this.#expected) {
      this.#settle.resolve();
    }
    return true;
  }

  #incomplete(needed: number): McwcError {
    return new McwcError('incomplete', `incomplete: ${needed} bytes are needed, there are ${this.#loaded}`);
  }

  #segmentAt(offset: number): number {
    let low = 0;
    for (let high = this.#starts.length; high - low > 1; ) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle] <= offset) low = middle;
      else high = middle;
    }
    return low;
  }
}

/** Bytes that are read when they are needed. */
class BlobSource implements Source {
  readonly complete: Promise<void>;
  #error: unknown;
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(
    private readonly blob: Blob,
    private readonly onProgress: ArchiveOptions['onProgress'],
  ) {
    this.complete = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.complete.catch(() => {});
  }

  has(end: number): boolean {
    return end <= this.blob.size;
  }

  async available(end: number): Promise<void> {
    if (this.#error) throw this.#error;
    if (!this.has(end)) {
      throw new McwcError('incomplete', `incomplete: ${end} bytes are needed, there are ${this.blob.size}`);
    }
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await this.available(offset + target.length);
    try {
      target.set(new Uint8Array(await this.blob.slice(offset, offset + target.length).arrayBuffer()));
    } catch (error) {
      throw new McwcError('io', `the blob could not be read: ${(error as Error).message}`, { cause: error });
    }
  }

  expect(bytes: number): void {
    const { size } = this.blob;
    if (size > bytes) this.close(new McwcError('invalid', 'invalid archive: bytes follow the last chunk'));
    else if (size < bytes) this.available(bytes).catch(this.#settle.reject);
    else {
      this.#settle.resolve();
      this.onProgress?.({ loaded: size, total: size });
    }
  }

  close(error: unknown): void {
    this.#error ??= error;
    this.#settle.reject(error);
  }
}
