// `mcwc calibrate`: ONNX model, and samples if there are any -> statistics file (docs/CALIBRATION.md) for `mcwc encode --calibration`.
import { basename, extname } from 'node:path';
import { parseArgs } from 'node:util';
import { calibrateModel, RANDOM_INPUTS, type Calibration } from './calibration.js';
import { Destination } from './destination.js';
import { UsageError, reason } from './errors.js';
import type { Graph } from './graph.js';
import { parseShape } from './feeds.js';
import { samplesFrom } from './samples.js';
import { MAX_MEASURED, type Statistics } from './statistics.js';
import { DiskFile, loadRuntime } from './system.js';

const HELP = `Usage: mcwc calibrate MODEL.onnx [options]

Measures how much each weight matters to the model's outputs, for mcwc encode --calibration. Needs onnxruntime-node.

  --samples FILE|DIR      what the model is made for: .safetensors, .npy or .json, a file for each run.
                          With them the inputs of each weight are measured too, which makes files smaller still.
                          Without, the model runs on random inputs.
  -o, --output FILE       statistics file, - for standard output [MODEL.stats.safetensors]
  --force                 replaces a statistics file that exists
  --inputs N              how many random inputs [5]
  --shape NAME=1x3x48x320 size of a random input; once for each input
  --outputs A,B           which outputs are compared [all that hold floats, but for the caches of a decoder]
  --distortion KIND       relative (squared error) or kl (of the softmax along the last axis) [relative]
  --seed N                of noise and random inputs [0]
  --json                  prints the result as JSON
  -q, --quiet             no progress
  -h, --help`;
const OPTIONS = {
  samples: { type: 'string' },
  output: { type: 'string', short: 'o' },
  force: { type: 'boolean' },
  inputs: { type: 'string' },
  shape: { type: 'string', multiple: true },
  outputs: { type: 'string' },
  distortion: { type: 'string' },
  seed: { type: 'string' },
  json: { type: 'boolean' },
  quiet: { type: 'boolean', short: 'q' },
  help: { type: 'boolean', short: 'h' },
} as const;

export async function calibrate(args: string[]): Promise<void> {
  const { values, positionals } = parse(args);
  if (values.help) return console.log(HELP);
  if (positionals.length !== 1) throw new UsageError('calibrate takes one model; see mcwc calibrate --help');
  const [path] = positionals;
  if (values.samples && (values.inputs || values.shape))
    throw new UsageError('--inputs and --shape are for random inputs, not for --samples');
  const distortion = values.distortion ?? 'relative';
  if (distortion !== 'relative' && distortion !== 'kl')
    throw new UsageError(`--distortion ${distortion}: expected relative or kl`);
  const output = values.output ?? `${basename(path, extname(path))}.stats.safetensors`;
  const seed = whole('--seed', values.seed ?? 0, 0, 1e9);
  const count = whole('--inputs', values.inputs ?? RANDOM_INPUTS, 1, MAX_MEASURED);
  const shapes = new Map((values.shape ?? []).map(parseShape));

  const started = performance.now();
  const destination = new Destination(output, values.force ?? false, [path, ...(values.samples ? [values.samples] : [])]);
  const progress = values.quiet ? () => {} : printProgress;
  const { samples } = values;
  const options = { samples: samplesFrom(samples), count, shapes, outputs: values.outputs?.split(','), distortion, seed, progress } as const;
  const calibration = await calibrateModel(new DiskFile(path), await loadRuntime(), options);
  await destination.write(calibration.bytes);
  const seconds = (performance.now() - started) / 1000;
  // What there is to say gives way to a file that takes standard output.
  if (destination.isStandardOutput) console.log = console.error;
  const report = values.json ? printJson : printReport;
  report({ ...calibration, output, real: samples !== undefined, seconds });
}

interface Result extends Calibration {
  output: string;
  real: boolean;
  seconds: number;
}

function printReport({ output, feeds, real, assumed, graph, statistics, seconds }: Result) {
  const { importances, measured, tensors } = statistics;
  for (const line of assumed) console.log(`assumed  ${line}`);
  for (const note of notesOf(graph, statistics, real)) console.log(`note     ${note}`);
  if (statistics.secondDraw !== undefined) {
    const times = statistics.secondDraw.toFixed(2);
    console.log(
      `checked  on a second draw of random inputs errors cost ${times} times what the first foretells; on real ones unknown`,
    );
  }
  const moments = tensors.filter(({ name }) => name.endsWith('_moments')).length;
  console.log(`outputs  ${graph.outputs.map(({ name }) => name).join(', ')}`);
  const on = real ? `${feeds} samples` : `${feeds} random inputs`;
  console.log(
    `${output}: ${importances.size} weights, ${moments} with moments, from ${on} (importances from ${measured}), ${seconds.toFixed(1)} s`,
  );
}

/** What was not measured; random inputs tell nothing of moments anyway. */
function notesOf(graph: Graph, { notes }: Statistics, real: boolean): string[] {
  return [...graph.unmeasured, ...(real ? graph.notes : []), ...notes];
}

function printJson({ output, feeds, real, assumed, graph, statistics, seconds }: Result) {
  const { importances, measured, tensors } = statistics;
  const written = new Set(tensors.map(({ name }) => name));
  const weights = [...importances].map(([weight, importance]) => {
    const kind = graph.kinds.get(weight);
    const { name, shape } = weight;
    return { name, shape, importance, moments: written.has(`${name}/${kind}`) ? kind : null };
  });
  const outputs = graph.outputs.map(({ name }) => name);
  const notes = notesOf(graph, statistics, real);
  const { secondDraw } = statistics;
  const inputs = real ? 'samples' : 'random';
  const result = { output, inputs, feeds, measured, outputs, assumed, notes, secondDraw, seconds, weights };
  console.log(JSON.stringify(result, null, 2));
}

function parse(args: string[]) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError(reason(error), { cause: error });
  }
}

function whole(option: string, text: string | number, least: number, most: number): number {
  const number = /^\d+$/.test(`${text}`) ? Number(text) : NaN;
  if (number >= least && number <= most) return number;
  throw new UsageError(`${option} ${text}: expected a whole number from ${least} to ${most}`);
}

let lastProgress = 0;

export function printProgress(what: string, done: number, total: number) {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r\x1b[K${done === total ? '' : `${done}/${total}  ${what}`}`);
  } else if (done === total || performance.now() - lastProgress > 10_000) {
    lastProgress = performance.now();
    process.stderr.write(`${what} ${done}/${total}\n`);
  }
}
