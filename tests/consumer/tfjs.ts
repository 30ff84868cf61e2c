// The adapter for TensorFlow.js beside its real types.
import { loadGraphModel } from '@tensorflow/tfjs-converter';
import { type NamedTensorMap, type Tensor, io } from '@tensorflow/tfjs-core';
import { loadLayersModel } from '@tensorflow/tfjs-layers';
import { fromMcwc, loadWeights } from 'mcwc/tfjs';

const handler: io.IOHandler = fromMcwc('model.mcwc');

export async function bias(): Promise<Tensor> {
  await loadGraphModel(handler, { streamWeights: true });
  await loadGraphModel(fromMcwc('model.mcwc'));
  await loadLayersModel(fromMcwc('model.mcwc'), { strict: false });
  const weights: NamedTensorMap = await loadWeights({ io }, 'model.mcwc');
  return weights.bias;
}
