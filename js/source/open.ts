// Whatever `open` takes -> a source of bytes.
import { McwcError } from '../errors.js';
import { nodeModule } from '../platform.js';
import type { ArchiveOptions, ArchiveSource } from '../types.js';
import { BlobSource } from './blob.js';
import { MemorySource } from './memory.js';
import type { Source } from './source.js';

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
  const source = new MemorySource(bytes.length, onProgress);
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
  const source = new MemorySource(total, onProgress, (reason) => reader.cancel(reason).catch(() => {}));
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
