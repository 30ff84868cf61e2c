import * as tf from '@tensorflow/tfjs-core';
import '@tensorflow/tfjs-backend-cpu';
import { loadGraphModel } from '@tensorflow/tfjs-converter';
import { fromMcwc } from 'mcwc/tfjs';
import { show } from './show.js';

show(async () => {
  const models = [await loadGraphModel(fromMcwc('/blazeface.mcwc')), await loadGraphModel('/blazeface/blazeface.json')];
  const input = tf.tensor(Float32Array.from({ length: 256 * 256 * 3 }, (_, index) => ((index * 7919) % 256) / 256), [1, 256, 256, 3]);
  const [ours, theirs] = await Promise.all(models.map((model) => [model.predict(input)].flat()[0].data()));
  return { outputs: ours.length, equal: ours.every((value, index) => value === theirs[index]) };
});
