// Whatever `open` takes -> a source of bytes.
import { McwcError } from './errors.js';
import { nodeModule } from './platform.js';
import type { ArchiveOptions, ArchiveSource } from './types.js';
import { Download } from './source/download.js';
import { MemorySource, type Report } from './source/memory.js';
import { RemoteFile } from './source/remote.js';
import { type Bytes, Segments } from './source/segments.js';
import { PREAMBLE_BYTES, type Source } from './source/source.js';

const DEFAULTS = { silenceMs: 30_000, retries: 6, retryMs: 500 };

export async function openSource(source: ArchiveSource, options: ArchiveOptions, report: Report): Promise<Source> {
  const node = nodeModule('node:fs');
  if (isAddress(source)) {
    if (node && isPath(source)) return fromBlob(await openFile(node, source), report);
    source = requestOf(source);
  }
  if (source instanceof Request || source instanceof Response) return download(source, options, report);
  if (source instanceof Blob) return fromBlob(source, report);
  if (source instanceof ReadableStream) return fromStream(source, options, report);
  if (!(source instanceof ArrayBuffer || ArrayBuffer.isView(source))) {
    throw new McwcError('argument', 'open takes an address, Request, Response, Blob, bytes or stream');
  }
  const bytes = ArrayBuffer.isView(source) ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength) : new Uint8Array(source);
  // What is wrong with so few is told by code that others need not load.
  if (bytes.length < PREAMBLE_BYTES) return fromBlob(new Blob([bytes.slice()]), report);
  const memory = new MemorySource(report);
  memory.write(0, bytes, 'memory', bytes.length);
  memory.end();
  return memory;
}

async function fromBlob(blob: Blob, report: Report): Promise<Source> {
  const { BlobSource } = await import('./source/given.js');
  return new BlobSource(blob, report);
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

function requestOf(address: string | URL): Request {
  try {
    return new Request(address);
  } catch (error) {
    throw new McwcError('argument', `${address}: ${(error as Error).message}`, { cause: error });
  }
}

async function download(source: Request | Response, options: ArchiveOptions, report: Report): Promise<Source> {
  if (source instanceof Response && (!source.body || source.bodyUsed || source.body.locked)) {
    throw new McwcError('argument', 'the response has no unread body');
  }
  if (source instanceof Request) source.signal.throwIfAborted();
  const { lazy, keep, silenceMs = DEFAULTS.silenceMs, retries = DEFAULTS.retries, retryMs = DEFAULTS.retryMs } = options;
  const file = new RemoteFile(source, silenceMs);
  const memory = new MemorySource(report, keep === false, await bytesOf(file, source, silenceMs, options));
  const download = new Download(file, memory, { retries, retryMs }, fetchAgain);
  memory.supply = download;
  if (!lazy) download.run();
  if (lazy || (keep === false && file.canRestart)) {
    const { LazyRanges } = await import('./source/lazy.js');
    memory.supply = new LazyRanges(download, !lazy);
  }
  if (source instanceof Request) source.signal.addEventListener('abort', () => memory.close(source.signal.reason));
  return memory;
}

async function fetchAgain(...range: [download: Download, start: number, end: number]): Promise<boolean> {
  return (await import('./source/lazy.js')).fetchAgain(...range);
}

async function bytesOf(file: RemoteFile, source: Request | Response, silenceMs: number, options: ArchiveOptions): Promise<Bytes> {
  if (!options.cache) return new Segments();
  const loaded = await import('./cache/kept.js').catch((error) => ({ cacheReason: String(error) }));
  if ('KeptBytes' in loaded) return new loaded.KeptBytes(file, source, silenceMs, options);
  return Object.assign(new Segments(), loaded);
}

async function fromStream(stream: ReadableStream<Uint8Array>, { keep }: ArchiveOptions, report: Report): Promise<Source> {
  if (stream.locked) throw new McwcError('argument', 'the stream is locked to another reader');
  const memory = new MemorySource(report, keep === false);
  const { receive } = await import('./source/given.js');
  receive(stream, memory);
  return memory;
}
