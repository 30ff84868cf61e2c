import { env, pipeline } from '@huggingface/transformers';
import { enable } from 'mcwc/transformers';
import { show } from './show.js';

env.backends.onnx.wasm.numThreads = 1;
env.backends.onnx.wasm.wasmPaths = { wasm: '/transformers/ort-wasm-simd-threaded.asyncify.wasm' };
env.useWasmCache = false;
env.remoteHost = `${location.origin}/`;
env.remotePathTemplate = '{model}/';

show(async () => {
  enable(env, { 'mcwc/bert': '/bert.mcwc' });
  const embed = async (model) => (await (await pipeline('feature-extraction', model, { dtype: 'fp32' }))('The quince honey house.')).data;
  const [ours, theirs] = [await embed('mcwc/bert'), await embed('decoded')];
  return { outputs: ours.length, equal: ours.every((value, index) => value === theirs[index]) };
});
