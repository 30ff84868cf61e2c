// What a program may do with the package, as its types see it. Compiled by types.test.mjs, never run.
import { type Archive, type ArchiveFile, type ArchiveSource, type OpenOptions, type TensorInfo, McwcError, open } from 'mcwc';
import { type CacheFilter, type CachedArchive, caches, prefetch } from 'mcwc/cache';
import { toFloat32 } from 'mcwc/float32';

const options: OpenOptions = {
  onPass: (pass) => pass.toFixed(),
  onProgress: ({ loaded, decoded, total = 0, from }) => `${(loaded + decoded) / total} ${from === 'network'}`,
  backend: 'auto',
  lazy: true,
  cache: 'models',
  silenceMs: 10_000,
  retries: 3,
  retryMs: 100,
  signal: new AbortController().signal,
};

export async function read(source: ArchiveSource): Promise<number> {
  const archive: Archive = await open(source, options);
  const delta = await open(new Uint8Array(4), { ...options, base: archive });
  const { data, shape, dtype, pass } = await archive.tensor('weight', { pass: archive.passes - 1 });
  await archive.tensor('weight', { file: 'model.onnx' });
  if (data instanceof Float32Array) data.fill(0);
  if (data instanceof BigInt64Array) data.fill(0n);
  // @ts-expect-error
  if (data instanceof Float32Array) data.fill(0n);
  // @ts-expect-error
  archive.weights;
  return data.byteLength + shape.length + dtype.length + pass + (await blobOf(delta.file('model.onnx', { pass: 'final' }))).size;
}

async function blobOf(file: ArchiveFile): Promise<Blob> {
  for (let reader = file.stream().getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    new Uint8Array(file.size).set(value);
  }
  return new Blob([await file.bytes(0, 10), await file.blob()]);
}

export async function upload(archive: Archive): Promise<void> {
  (await archive.gpuTensor('weight')).buffer.destroy();
}

/** What is known of the elements once the dtype is. */
export async function sum(archive: Archive): Promise<number> {
  let sum = 0;
  for (const { name, bytes } of archive) {
    const info: TensorInfo | undefined = archive.get(name, 'model.onnx');
    if (!info || !archive.has(name)) continue;
    const tensor = await archive.tensor(name);
    if (tensor.dtype === 'f32') sum += tensor.data.reduce((a, b) => a + b) / bytes;
    if (tensor.dtype === 'i64') sum += Number(tensor.data[0] / 2n);
    // @ts-expect-error
    if (tensor.dtype === 'f32') tensor.data.fill(0n);
    if (tensor.dtype === 'f16' || tensor.dtype === 'bf16') sum += toFloat32(tensor).length;
    const { dtype, data } = tensor;
    if (dtype === 'f64') sum += data[0];
  }
  return sum;
}

export async function config(archive: Archive): Promise<unknown> {
  const file = archive.file('config.json');
  const response: Response = file.response();
  return [await file.text(), await file.json(), response.headers.get('content-length')];
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof McwcError ? error.code : undefined;
}

export async function keep(url: string): Promise<string> {
  await prefetch(url, { cache: true, integrity: '0123456789abcdef0123456789abcdef' });
  const { cache, cacheReason, cached } = await open(new URL(url), { cache: true });
  const held = await caches();
  const incomplete = ({ complete }: CachedArchive) => !complete;
  const filter: CacheFilter = { cache: 'models', integrity: held.archives.find(incomplete)?.integrity, url };
  const left = held.bytes - (await held.delete(filter)) + (held.usage ?? 0) - (held.quota ?? 0);
  if (!held.persisted && !(await held.persist())) await held.delete();
  return `${cache === 'opfs'} ${cacheReason} ${await cached} ${left}`;
}
