// The adapters' types by themselves: they need no types of a runtime.
import { type Archive, open } from 'mcwc';
import { type Runtime, type SessionOptions, createSession } from 'mcwc/onnxruntime';
import { type ServeOptions, serve } from 'mcwc/service-worker';
import { type McwcHandler, type ModelArtifacts, type TfjsOptions, type WeightDecoder, fromMcwc, loadWeights } from 'mcwc/tfjs';
import { type Enabled, type Environment, enable } from 'mcwc/transformers';

declare const ort: Runtime;
declare const env: Environment;

const options: SessionOptions = { model: 'model.onnx', aheadBytes: 0, onProgress: ({ loaded }) => loaded };
export const session = createSession(ort, 'model.mcwc', options);
export const enabled: Enabled = enable(env, { 'Xenova/all-MiniLM-L6-v2': '/minilm.mcwc' }, { workers: 1 });
// @ts-expect-error A model needs a source.
enable(env, { 'Xenova/all-MiniLM-L6-v2': 1 });

const loading: TfjsOptions = { file: 'model.json', streamWeights: false, workers: 2 };

export async function load(archive: Archive): Promise<ModelArtifacts> {
  const handler: McwcHandler = fromMcwc(archive);
  // @ts-expect-error
  fromMcwc('model.mcwc', { streamWeight: true });
  const { getWeightStream } = await handler.load();
  const { value } = (await getWeightStream?.().getReader().read()) ?? {};
  value?.byteLength.toFixed();
  return fromMcwc('model.mcwc', loading).load();
}

export async function weights(tf: WeightDecoder<{ [name: string]: { shape: number[] } }>): Promise<number[]> {
  return (await loadWeights(tf, await open('model.mcwc'), { file: 'net-weights_manifest.json' })).bias.shape;
}

export function start(served: ServeOptions): void {
  serve({ '/models/': 'models.mcwc', '/other/': new URL('https://example.com/other.mcwc') }, served);
  // @ts-expect-error
  serve({ '/models/': 'models.mcwc' }, { workers: 1 });
}
