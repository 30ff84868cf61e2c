// What a program may do with the package, as its types see it. Compiled by types.test.mjs, never run.
import { type Archive, type ArchiveFile, type ArchiveSource, type OpenOptions, McwcError, open } from 'mcwc';

const options: OpenOptions = { onPass: (pass) => pass.toFixed(), backend: 'auto', signal: new AbortController().signal };

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

export function codeOf(error: unknown): string | undefined {
  return error instanceof McwcError ? error.code : undefined;
}
