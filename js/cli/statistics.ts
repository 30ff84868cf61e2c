// Graph + feeds -> statistics: how much each weight matters to the outputs, and what it is multiplied with.
import type { env, InferenceSession, Tensor } from 'onnxruntime-node';
import { CalibrationError, reason } from './errors.js';
import type { Graph, Moments, Weight } from './graph.js';
import type { Feed, Input } from './inputs.js';
import { Random } from './random.js';
import { elements, type FloatTensor } from './safetensors.js';
import { OTHERWISE } from './subgraphs.js';

/** What is used of onnxruntime-node. */
export interface Runtime {
  InferenceSession: typeof InferenceSession;
  Tensor: typeof Tensor;
  env: Pick<typeof env, 'versions'>;
}

export interface Options {
  distortion: 'relative' | 'kl';
  seed: number;
  /** Whether the inputs are what the model is made for: else they tell nothing of moments and frequencies. */
  real: boolean;
  progress: (what: string, done: number, total: number) => void;
}

export interface Statistics {
  tensors: FloatTensor[];
  importances: Map<Weight, number>;
  /** Feeds that importances were measured on. */
  measured: number;
  /** What was hardly measured, or not at all. */
  notes: string[];
  /** How many times the error that importances foretell random inputs of another draw gave; absent if nothing was to be checked. */
  secondDraw?: number;
}

/** More would not change the order of the weights, only take longer. */
export const MAX_MEASURED = 64;
const MAX_REFERENCE_BYTES = 2 ** 30;
/** Each is measured on its own part of the feeds. */
const DRAWS = 2;
/** Standard deviation of the noise over the weight's root mean square, where the answer is linear in the noise's energy. */
const NOISE = 0.05;
/** Below, the rounding of float32 is a part of what is measured; above, it is not linear. */
const LINEAR = { least: 1e-8, most: 1e-2 };
const ADAPTATIONS = 4;
/** Between the draws of random inputs an importance differs by at most so many times, else the larger counts. */
const UNEVEN = 4;
/** What a second draw of random inputs is checked with: an error that all weights make together. */
const CHECKED_ERROR = 1e-3;
/** If the error is more than so many times what importances foretell, they are raised. */
const CHECK_TOLERANCE = 2;
/** Most noise in a weight then, over its root mean square. */
const LARGEST_NOISE = 0.5;

/** Threads that wait without spinning: runs are short and many, and what else the machine does goes on. */
const SESSION = { logSeverityLevel: 4, extra: { session: { intra_op: { allow_spinning: '0' } } } } as const;

/** A name for each, with float32 values. */
type Outputs = Map<string, Float32Array>;

/** Random inputs come with others, of a second draw, that what was measured on the first is checked on. */
export async function measure(
  runtime: Runtime,
  graph: Graph,
  feeds: Feed[],
  second: Feed[],
  options: Options,
): Promise<Statistics> {
  const model = new Measurement(runtime, graph, options);
  const importances = await model.importances(feeds);
  const secondDraw = options.real ? undefined : await model.check(second, importances);
  const tensors: FloatTensor[] = [...importances].map(([{ name }, importance]) => {
    return { name: `${name}/importance`, shape: [], data: Float32Array.of(importance) };
  });
  tensors.push(...(await model.observe(feeds)));
  tensors.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { tensors, importances, measured: model.measured, notes: model.notes, secondDraw };
}

class Measurement {
  measured = 0;
  readonly notes: string[] = [];
  /** Whether branches go the other way. */
  #otherwise = false;
  readonly #values = new Map<Weight, Float32Array>();
  readonly #tensors = new Map<string, Tensor>();

  constructor(
    readonly runtime: Runtime,
    readonly graph: Graph,
    readonly options: Options,
  ) {
    for (const weight of graph.weights) {
      const data = weight.tensor.floats();
      const bad = data.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0) throw new CalibrationError(`weight ${weight.name}: element ${bad} is ${data[bad]}`);
      this.#values.set(weight, data);
      this.#tensors.set(weight.feed, new runtime.Tensor('float32', data, weight.shape));
    }
  }

  async importances(feeds: Feed[]): Promise<Map<Weight, number>> {
    const session = await this.#session(this.graph.forMeasuring());
    try {
      const { chosen, references } = await this.#references(session, feeds);
      this.measured = chosen.length;
      const importances = new Map<Weight, number>();
      for (const weight of this.graph.weights) {
        importances.set(weight, await this.#importance(session, weight, chosen, references));
      }
      if (this.graph.model.branches) await this.#measureOtherBranches(session, chosen, importances);
      this.options.progress('importance', this.graph.weights.length, this.graph.weights.length);
      for (const [{ name }, importance] of importances) {
        if (importance === 0) this.notes.push(`${name}: no output depended on it; it is taken to matter as much as others do`);
      }
      return importances;
    } finally {
      await session.release();
    }
  }

  /** Of weights that had no effect, with all branches going the other way: if the model can. */
  async #measureOtherBranches(session: InferenceSession, feeds: Feed[], importances: Map<Weight, number>) {
    const idle = this.graph.weights.filter((weight) => importances.get(weight) === 0);
    if (idle.length === 0) return;
    this.#otherwise = true;
    try {
      const { chosen, references } = await this.#references(session, feeds);
      for (const weight of idle) {
        const importance = await this.#importance(session, weight, chosen, references);
        importances.set(weight, importance);
        if (importance > 0) this.notes.push(`${weight.name}: measured in a branch that these inputs do not take`);
      }
    } catch (error) {
      this.notes.push(`the branches that these inputs do not take cannot be measured: ${reason(error).replace(/\s+/g, ' ')}`);
    } finally {
      this.#otherwise = false;
    }
  }

  /**
   * Noise in all weights at once, as much in each as an encoder would leave there, on other inputs: how many times the error that
   * importances foretell. Raises them where it is much more.
   */
  async check(feeds: Feed[], importances: Map<Weight, number>): Promise<number | undefined> {
    const known = [...importances].filter(([, importance]) => importance > 0);
    if (known.length === 0) return undefined;
    const session = await this.#session(this.graph.forMeasuring());
    try {
      const { chosen, references } = await this.#references(session, feeds);
      const total = known.reduce((sum, [{ shape }]) => sum + elements(shape), 0);
      const tensors = new Map(this.#tensors);
      let foretold = 0;
      for (const [weight, importance] of known) {
        const original = this.#values.get(weight)!;
        const changed = new Float32Array(original.length);
        const widest = LARGEST_NOISE * rootMeanSquare(original);
        const deviation = Math.min(Math.sqrt(CHECKED_ERROR / total / importance), widest);
        foretold += importance * addNoise(original, changed, deviation, this.#noise(weight, DRAWS));
        tensors.set(weight.feed, new this.runtime.Tensor('float32', changed, weight.shape));
      }
      let found = 0;
      for (const [index, feed] of chosen.entries()) {
        found += this.#distortion(references[index], await this.#outputs(session, feed, tensors), known[0][0]) / chosen.length;
      }
      const ratio = found / foretold;
      if (ratio <= CHECK_TOLERANCE) return ratio;
      this.notes.push(
        `on other random inputs errors cost ${ratio.toFixed(1)} times as much: importances are raised by as much`,
      );
      for (const [weight, importance] of known) importances.set(weight, importance * ratio);
      return 1;
    } finally {
      await session.release();
    }
  }

  /** The same each time for a weight and a draw. */
  #noise(weight: Weight, draw: number): Random {
    return new Random(this.options.seed + this.graph.weights.indexOf(weight) * DRAWS + draw);
  }

  /** The feeds to measure on, evenly spread, with what the unchanged model makes of them. */
  async #references(session: InferenceSession, feeds: Feed[]): Promise<{ chosen: Feed[]; references: Outputs[] }> {
    let most = Math.min(feeds.length, MAX_MEASURED);
    let chosen: Feed[] = [];
    const references: Outputs[] = [];
    for (let index = 0; index < most; index++) {
      const feed = feeds[Math.floor((index * feeds.length) / most)];
      this.options.progress('outputs', index, most);
      const outputs = await this.#outputs(session, feed);
      const bad = [...outputs].find(([, data]) => !data.every(Number.isFinite));
      if (bad) throw new CalibrationError(await this.#explainNonFinite(bad[0], feed));
      if (index === 0) {
        const bytes = [...outputs.values()].reduce((sum, data) => sum + data.byteLength, 0);
        most = Math.max(1, Math.min(most, Math.floor(MAX_REFERENCE_BYTES / Math.max(1, bytes))));
      }
      chosen.push(feed);
      references.push(outputs);
    }
    this.options.progress('outputs', most, most);
    return { chosen, references };
  }

  /** Expected distortion for each unit of squared error. */
  async #importance(session: InferenceSession, weight: Weight, feeds: Feed[], references: Outputs[]): Promise<number> {
    const index = this.graph.weights.indexOf(weight);
    this.options.progress(`importance of ${weight.name}`, index, this.graph.weights.length);
    const original = this.#values.get(weight)!;
    const rms = rootMeanSquare(original);
    if (rms === 0) return 0;
    const changed = new Float32Array(original.length);
    const tensors = new Map(this.#tensors).set(weight.feed, new this.runtime.Tensor('float32', changed, weight.shape));
    let noise = NOISE;
    const measured: number[] = [];
    for (let draw = 0; draw < DRAWS; draw++) {
      const own = feeds.length < DRAWS ? [0] : [...feeds.keys()].filter((feed) => feed % DRAWS === draw);
      let [distortion, energy] = [0, 0];
      for (let attempt = 0; attempt < ADAPTATIONS; attempt++) {
        energy = addNoise(original, changed, noise * rms, this.#noise(weight, draw));
        distortion = 0;
        for (const feed of own) {
          const outputs = await this.#outputs(session, feeds[feed], tensors);
          distortion += this.#distortion(references[feed], outputs, weight) / own.length;
        }
        if (distortion === 0 || (distortion >= LINEAR.least && distortion <= LINEAR.most)) break;
        noise *= distortion > LINEAR.most ? 0.25 : 4;
      }
      // So small a weight that float32 keeps no noise of it.
      if (energy === 0) return 0;
      measured.push(distortion / energy);
    }
    const [least, most] = [Math.min(...measured), Math.max(...measured)];
    if (this.options.real || most <= UNEVEN * least) return measured.reduce((sum, value) => sum + value, 0) / DRAWS;
    const times = least > 0 ? `${(most / least).toFixed(1)} times as important` : 'important only';
    this.notes.push(`${weight.name}: ${times} on some random inputs as on others; the larger importance counts`);
    return most;
  }

  /** Mean over the outputs. */
  #distortion(reference: Outputs, outputs: Outputs, weight: Weight): number {
    let total = 0;
    for (const [name, expected] of reference) {
      const found = outputs.get(name)!;
      const axis = this.#lastAxes.get(name) ?? 1;
      const distortion = this.options.distortion === 'kl' ? divergence(expected, found, axis) : relativeError(expected, found);
      if (!Number.isFinite(distortion))
        throw new CalibrationError(`weight ${weight.name}: with noise, output ${name} is not finite`);
      total += distortion / reference.size;
    }
    return total;
  }

  readonly #lastAxes = new Map<string, number>();

  async #outputs(session: InferenceSession, feed: Feed, weights = this.#tensors): Promise<Outputs> {
    const results = await this.#run(session, feed, weights);
    return new Map(
      this.graph.outputs.map(({ name, fetch }) => {
        const { data, dims } = results[fetch];
        this.#lastAxes.set(name, dims.at(-1) ?? 1);
        return [name, data as Float32Array];
      }),
    );
  }

  /** From real inputs the second moments of the weights' inputs, and how often the rows of tables are looked up. */
  async observe(feeds: Feed[]): Promise<FloatTensor[]> {
    const sums = new Map<Weight, { sum: Float64Array; positions: number; columns: number }>();
    const counts = new Map<Weight, Float64Array>();
    const { real } = this.options;
    const passes = [...this.graph.forObserving(real)];
    for (const [pass, { bytes, moments, lookups }] of passes.entries()) {
      const session = await this.#session(bytes);
      try {
        for (const [index, feed] of feeds.entries()) {
          this.options.progress('moments', pass * feeds.length + index, passes.length * feeds.length);
          const results = await this.#run(session, feed);
          for (const each of moments) addMoments(each, results, sums);
          for (const { weight, rows } of lookups) count(weight, results[rows].data as BigInt64Array, counts);
        }
      } finally {
        await session.release();
      }
    }
    if (passes.length > 0) this.options.progress('moments', passes.length * feeds.length, passes.length * feeds.length);
    const tensors: FloatTensor[] = [];
    for (const [weight, { sum, positions, columns }] of sums) {
      const data = Float32Array.from(sum, (value) => value / Math.max(1, positions));
      const bad = data.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0) throw new CalibrationError(`weight ${weight.name}: the moments of its inputs are not finite`);
      tensors.push({ name: `${weight.name}/${this.graph.kinds.get(weight)}`, shape: [columns, columns], data });
    }
    for (const [weight, found] of counts) {
      const rows = found.filter((count) => count > 0).length;
      if (rows < found.length) this.notes.push(`${weight.name}: ${rows} of ${found.length} rows were looked up`);
      if (!real) continue;
      const data = frequencies(found, sums.has(weight));
      tensors.push({ name: `${weight.name}/row_importance`, shape: [data.length], data });
    }
    return tensors;
  }

  async #session(bytes: Uint8Array): Promise<InferenceSession> {
    try {
      return await this.runtime.InferenceSession.create(bytes, SESSION);
    } catch (error) {
      throw new CalibrationError(`ONNX Runtime cannot run ${this.graph.model.path}: ${reason(error)}`, { cause: error });
    }
  }

  async #run(session: InferenceSession, feed: Feed, weights = this.#tensors): Promise<Record<string, Tensor>> {
    const { runtime, graph } = this;
    const feeds: Record<string, Tensor> = Object.fromEntries(weights);
    if (graph.model.branches) feeds[OTHERWISE] = new runtime.Tensor('bool', Uint8Array.of(Number(this.#otherwise)), []);
    for (const input of graph.model.inputs) feeds[graph.feedName(input)] = toTensor(runtime, feed.get(input.name)!);
    try {
      return (await session.run(feeds)) as Record<string, Tensor>;
    } catch (error) {
      const shapes = [...feed].map(([name, { shape }]) => `${name} ${shape.join('x')}`).join(', ');
      throw new CalibrationError(`${graph.model.path} fails on ${shapes}: ${reason(error)}`, { cause: error });
    }
  }

  /** Names the first of the graph's tensors that is not a number. */
  async #explainNonFinite(output: string, feed: Feed): Promise<string> {
    const what = `${this.graph.model.path}: output ${output} is not finite`;
    const { bytes, names } = this.graph.forTracing();
    const session = await this.runtime.InferenceSession.create(bytes, SESSION).catch(() => undefined);
    if (!session) return what;
    try {
      const results = await this.#run(session, feed);
      const first = names.find(
        (name) => results[name]?.type === 'float32' && (results[name].data as Float32Array).some(Number.isNaN),
      );
      return first === undefined ? what : `${what}; the first tensor that is not a number is ${first}`;
    } finally {
      await session.release();
    }
  }
}

function toTensor(runtime: Runtime, { type, data, shape }: Input): Tensor {
  return new runtime.Tensor(type as 'float32', data as Float32Array, shape);
}

function rootMeanSquare(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

/** Uniform noise of this standard deviation, as quantization makes it; returns its energy, that of what float32 keeps of it. */
function addNoise(original: Float32Array, changed: Float32Array, deviation: number, random: Random): number {
  const width = deviation * Math.sqrt(12);
  let energy = 0;
  for (let index = 0; index < original.length; index++) {
    changed[index] = original[index] + width * (random.uniform() - 0.5);
    energy += (changed[index] - original[index]) ** 2;
  }
  return energy;
}

export function relativeError(expected: Float32Array, found: Float32Array): number {
  let [error, norm] = [0, 0];
  for (let index = 0; index < expected.length; index++) {
    error += (found[index] - expected[index]) ** 2;
    norm += expected[index] ** 2;
  }
  return error / Math.max(norm, 1e-30);
}

/** Kullback-Leibler divergence of the softmax along the last axis, mean over the positions. */
export function divergence(expected: Float32Array, found: Float32Array, size: number): number {
  let total = 0;
  for (let start = 0; start < expected.length; start += size) {
    const [p, q] = [expected, found].map((values) => values.subarray(start, start + size));
    const [normP, normQ] = [p, q].map(logSumExp);
    for (let index = 0; index < size; index++) {
      const logP = p[index] - normP;
      total += Math.exp(logP) * (logP - (q[index] - normQ));
    }
  }
  return (total * size) / Math.max(1, expected.length);
}

function logSumExp(values: Float32Array): number {
  const most = values.reduce((most, value) => Math.max(most, value), -Infinity);
  return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
}

type Sums = Map<Weight, { sum: Float64Array; positions: number; columns: number }>;

function addMoments({ sum, positions, columns, weights }: Moments, results: Record<string, Tensor>, sums: Sums) {
  const data = results[sum].data as Float32Array;
  const added = Number((results[positions].data as BigInt64Array)[0]);
  for (const weight of weights) {
    const known = sums.get(weight) ?? { sum: new Float64Array(columns * columns), positions: 0, columns };
    for (let index = 0; index < data.length; index++) known.sum[index] += data[index];
    known.positions += added;
    sums.set(weight, known);
  }
}

function count(weight: Weight, rows: BigInt64Array, counts: Map<Weight, Float64Array>) {
  const known = counts.get(weight) ?? new Float64Array(weight.shape[0]);
  for (const row of rows) known[row < 0 ? known.length + Number(row) : Number(row)] += 1;
  counts.set(weight, known);
}

/**
 * Mean 1. Each row counts once more than it was looked up: elsewhere it may be. A table that is multiplied with too
 * matters as much again, in all its rows alike.
 */
function frequencies(counts: Float64Array, multiplied: boolean): Float32Array {
  const mean = counts.reduce((sum, value) => sum + value + 1, 0) / counts.length;
  return Float32Array.from(counts, (value) => (multiplied ? 0.5 : 0) + ((value + 1) / mean) * (multiplied ? 0.5 : 1));
}
