// `mcwc encode`: calibrates ONNX models by itself where ONNX Runtime is at hand, and has the command do the rest.
import { readdirSync, statSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { printProgress } from './calibrate.js';
import { calibrateModel, loadRuntime, MissingRuntimeError, RANDOM_INPUTS } from './calibration.js';
import { inMemory, runCommand } from './command.js';
import { CalibrationError, reason } from './errors.js';
import type { Runtime } from './statistics.js';

export const ENCODE_HELP = `
Calibration of ONNX models, which the npm package does by itself if onnxruntime-node is installed:
      --samples <FILE|DIR>
          What the model is made for, as for mcwc calibrate [default: random inputs]

      --no-calibration
          Do not calibrate`;
const TEXT = { type: 'string' } as const;
/** Options with a value, and those that calibration has to know of. All others are the command's own business. */
const OPTIONS = {
  output: { type: 'string', short: 'o' },
  bits: TEXT,
  size: TEXT,
  quality: TEXT,
  preset: TEXT,
  progressive: TEXT,
  quantizer: TEXT,
  lambda: TEXT,
  calibration: TEXT,
  base: TEXT,
  'base-weights': TEXT,
  'unit-order': TEXT,
  'key-interval': TEXT,
  exclude: TEXT,
  samples: TEXT,
  'no-calibration': { type: 'boolean' },
  lossless: { type: 'boolean' },
  force: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
  json: { type: 'boolean' },
  'progress-lines': { type: 'boolean' },
} as const;

/** All arguments, `encode` among them. */
export async function encode(args: string[]): Promise<number> {
  const { values, positionals, tokens } = parseArgs({ args, options: OPTIONS, strict: false, allowPositionals: true, tokens: true });
  const own = tokens.filter((token) => token.kind === 'option' && (token.name === 'samples' || token.name === 'no-calibration'));
  const left = [...args];
  for (const token of own.reverse()) {
    const separate = token.kind === 'option' && token.inlineValue === false && token.value !== undefined;
    left.splice(token.index, separate ? 2 : 1);
  }
  const samples = typeof values.samples === 'string' ? values.samples : undefined;
  const inputs = positionals.slice(1);
  const output = typeof values.output === 'string' ? values.output : `${inputs[0]}.mcwc`;
  // What the command is going to refuse is not worth the time.
  const refused = values.help || inputs.length === 0 || (!values.force && statSync(output, { throwIfNoEntry: false })?.isFile());
  const unwanted = values['no-calibration'] || values.lossless || values.calibration !== undefined || values.base !== undefined;
  const models = refused || unwanted ? [] : inputs.flatMap(onnxFiles);
  if (models.length === 0) return runCommand(left);
  const lines = values['progress-lines'] === true;
  const statistics = await calibrateAll(models, { samples, lines, quiet: values.json === true });
  const given = [...statistics.keys()].map((path) => `--calibration=${inMemory(path)}`);
  const [start, end] = [left.slice(0, left.indexOf('encode') + 1), left.slice(left.indexOf('encode') + 1)];
  return runCommand([...start, ...given, ...end], statistics);
}

/** The path itself, or those in a folder. */
function onnxFiles(path: string): string[] {
  const isModel = (name: string) => extname(name).toLowerCase() === '.onnx';
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats?.isDirectory()) return stats?.isFile() && isModel(path) ? [path] : [];
  const names = readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
  return names.filter(isModel).map((name) => join(path, name));
}

interface Wanted {
  samples: string | undefined;
  /** Progress is lines of JSON. */
  lines: boolean;
  quiet: boolean;
}

/** Statistics files by their names in memory. A model that has none is told of, unless it has samples, which are not given in vain. */
async function calibrateAll(models: string[], { samples, lines, quiet }: Wanted): Promise<Map<string, Uint8Array>> {
  const statistics = new Map<string, Uint8Array>();
  const note = (text: string) => console.error(lines ? JSON.stringify({ note: text }) : `mcwc: ${text}`);
  const progress = (what: string, done: number, total: number) => {
    if (lines) console.error(JSON.stringify({ stage: 'calibrate', done: done / total }));
    else if (!quiet && process.stderr.isTTY) printProgress(what, done, total);
  };
  const runtime = await runtimeOr(samples === undefined ? note : undefined);
  if (!runtime) return statistics;
  for (const [index, path] of models.entries()) {
    const started = performance.now();
    const options = { samples, count: RANDOM_INPUTS, shapes: new Map(), distortion: 'relative', seed: 0, progress } as const;
    try {
      const { bytes, feeds } = await calibrateModel(path, runtime, options);
      statistics.set(`statistics/${index}-${basename(path)}.safetensors`, bytes);
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      const inputs = samples === undefined ? 'random inputs' : feeds === 1 ? 'sample' : 'samples';
      note(`${path}: calibrated on ${feeds} ${inputs} in ${seconds} s`);
    } catch (error) {
      if (samples !== undefined || !(error instanceof CalibrationError)) throw error;
      note(`${path}: not calibrated: ${reason(error)}`);
    }
  }
  return statistics;
}

/** Undefined if it is missing and somebody is there to be told. */
async function runtimeOr(note: ((text: string) => void) | undefined): Promise<Runtime | undefined> {
  try {
    return await loadRuntime();
  } catch (error) {
    if (!note) throw error;
    const missing = error instanceof MissingRuntimeError;
    note(`not calibrated: ${missing ? 'npm install onnxruntime-node makes ONNX models smaller at equal quality' : reason(error)}`);
    return undefined;
  }
}
