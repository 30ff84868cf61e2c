// A program that compresses models with the package.
import { type EncodeOptions, type EncoderFile, type EncodeResult, McwcError, encode } from 'mcwc/encoder';

const controller = new AbortController();
const options: EncodeOptions = {
  preset: 'balanced',
  statistics: [new Uint8Array(8)],
  exclude: ['lm_head.*'],
  onProgress: ({ stage, done }) => `${stage} ${Math.round(100 * done)} %`,
  signal: controller.signal,
  wasmUrl: new URL('https://example.com/mcwc.wasm'),
};

export async function compress(model: Blob & { name: string }): Promise<number> {
  const files: EncoderFile[] = [model, { name: 'vocabulary.txt', data: new ArrayBuffer(1) }, 'model.gguf'];
  try {
    const { archive, report }: EncodeResult = await encode(files, options);
    const [first] = report.tensors.filter(({ lossy }) => lossy);
    return archive.size + first.squaredError / first.energy;
  } catch (error) {
    if (error instanceof McwcError && error.code === 'invalid') controller.abort();
    throw error;
  }
}

// @ts-expect-error: there is no such preset.
encode('model.onnx', { preset: 'tiny' });
