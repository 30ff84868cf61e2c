// `mcwc encode`: calibrates ONNX models by itself where ONNX Runtime is at hand, and has the command do the rest.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { calibrateAll, isOnnx, runtimeOr } from './automatic.js';
import { printProgress } from './calibrate.js';
import { inMemory, runCommand } from './command.js';

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
  lanes: TEXT,
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
  const statistics = await calibrate(models, samples, values['progress-lines'] === true, values.json === true);
  const given = [...statistics.keys()].map((path) => `--calibration=${inMemory(path)}`);
  const [start, end] = [left.slice(0, left.indexOf('encode') + 1), left.slice(left.indexOf('encode') + 1)];
  return runCommand([...start, ...given, ...end], statistics);
}

/** The path itself, or those in a folder. */
function onnxFiles(path: string): string[] {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats?.isDirectory()) return stats?.isFile() && isOnnx(path) ? [path] : [];
  const names = readdirSync(path, { recursive: true, encoding: 'utf8' }).sort();
  return names.filter(isOnnx).map((name) => join(path, name));
}

/** Statistics files by their names in memory. `lines`: progress is lines of JSON. */
async function calibrate(models: string[], samples: string | undefined, lines: boolean, quiet: boolean): Promise<Map<string, Uint8Array>> {
  const note = (text: string) => console.error(lines ? JSON.stringify({ note: text }) : `mcwc: ${text}`);
  const progress = (what: string, done: number, total: number) => {
    if (lines) console.error(JSON.stringify({ stage: 'calibrate', done: done / total }));
    else if (!quiet && process.stderr.isTTY) printProgress(what, done, total);
  };
  const runtime = await runtimeOr(samples === undefined ? note : undefined);
  const statistics = runtime ? await calibrateAll(models, runtime, { samples, note, progress }) : [];
  return new Map(Array.from(statistics, ([name, bytes]) => [`statistics/${name}`, bytes]));
}
