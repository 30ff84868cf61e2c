// ONNX model, and samples if there are any -> the bytes of its statistics file.
import { RandomFeeds, type Shapes } from './feeds.js';
import { Graph } from './graph.js';
import type { Feed } from './inputs.js';
import { Model } from './model.js';
import type { ModelFile } from './onnx.js';
import { Random } from './random.js';
import { serializeSafetensors } from './safetensors.js';
import { measure, type Options, type Runtime, type Statistics } from './statistics.js';

export const RANDOM_INPUTS = 5;

export interface CalibrationOptions extends Pick<Options, 'distortion' | 'seed' | 'progress'> {
  /** Makes feeds of real samples, and says in words what was taken for granted; random inputs without. */
  samples?: (model: Model) => { feeds: Feed[]; assumed: string[] };
  /** How many random inputs. */
  count: number;
  /** Of random inputs. */
  shapes: Shapes;
  /** Which outputs are compared; all without. */
  outputs?: string[];
}

export interface Calibration {
  /** The statistics file. */
  bytes: Uint8Array;
  statistics: Statistics;
  graph: Graph;
  /** How many inputs the model ran on. */
  feeds: number;
  /** What was taken for granted, in words. */
  assumed: string[];
}

export async function calibrateModel(file: ModelFile, runtime: Runtime, options: CalibrationOptions): Promise<Calibration> {
  const { samples, count, shapes, outputs, distortion, seed, progress } = options;
  const graph = new Graph(new Model(file), outputs);
  const real = samples !== undefined;
  const { feeds, second, assumed } = real
    ? { ...samples(graph.model), second: [] }
    : randomFeeds(graph, count, shapes, seed);
  const statistics = await measure(runtime, graph, feeds, second, { distortion, seed, real, progress });
  const { secondDraw } = statistics;
  const metadata = {
    format: 'mcwc-statistics',
    version: '1',
    samples: String(real ? feeds.length : 0),
    inputs: real ? 'samples' : 'random',
    distortion,
    ...(secondDraw === undefined ? {} : { second_draw: secondDraw.toPrecision(4) }),
  };
  const bytes = serializeSafetensors(statistics.tensors, metadata);
  return { bytes, statistics, graph, feeds: feeds.length, assumed };
}

function randomFeeds(
  graph: Graph,
  count: number,
  shapes: Shapes,
  seed: number,
): { feeds: Feed[]; second: Feed[]; assumed: string[] } {
  const random = new RandomFeeds(graph.model, shapes, new Random(seed));
  const [feeds, second] = [random.draw(count), random.draw(count)];
  return { feeds, second, assumed: random.assumed };
}
