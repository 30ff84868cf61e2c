// The same for the adapters. Runtimes are described as far as they are needed.
import { type Archive, open } from 'mcwc';
import { createSession } from 'mcwc/onnxruntime';
import { type ServeOptions, serve } from 'mcwc/service-worker';
import { type McwcHandler, type ModelArtifacts, type TfjsOptions, type WeightDecoder, fromMcwc, loadWeights } from 'mcwc/tfjs';
import { enable } from 'mcwc/transformers';

const options: TfjsOptions = { file: 'model.json', streamWeights: false, workers: 2 };

export async function load(archive: Archive): Promise<ModelArtifacts> {
  const handler: McwcHandler = fromMcwc(archive);
  // @ts-expect-error
  fromMcwc('model.mcwc', { streamWeight: true });
  const { getWeightStream } = await handler.load();
  const { value } = (await getWeightStream?.().getReader().read()) ?? {};
  value?.byteLength.toFixed();
  return fromMcwc('model.mcwc', options).load();
}

export async function weights(tf: WeightDecoder<{ [name: string]: { shape: number[] } }>): Promise<number[]> {
  return (await loadWeights(tf, await open('model.mcwc'), { file: 'net-weights_manifest.json' })).bias.shape;
}

export function start(served: ServeOptions): void {
  serve({ '/models/': 'models.mcwc', '/other/': new URL('https://example.com/other.mcwc') }, served);
  // @ts-expect-error
  serve({ '/models/': 'models.mcwc' }, { workers: 1 });
}

export { createSession, enable };
