// What an import asks for: `./model.onnx?mcwc&preset=balanced` -> a path, and what the encoder is told.
import { basename, dirname, resolve } from 'node:path';
import { isOnnx } from '../cli/automatic.js';
import type { EncodeOptions } from '../encoder.js';
import { McwcError } from '../errors.js';
import type { PluginOptions } from './plugin-options.js';

/** Of imports that are the plugin's. */
export const IMPORTED = /\?(?:[^#]*&)?mcwc(?:[&=#]|$)/;

const RATES = ['bits', 'size', 'quality', 'preset', 'lossless', 'progressive'] as const;
const TEXTS = ['bits', 'size', 'quality', 'preset', 'quantizer', 'lanes', 'unitOrder'];
const LISTS = ['progressive', 'exclude'];
const FLAGS = ['lossless', 'adaptive', 'lenient', 'calibrate'];
/** From the model's folder, with commas between several. */
const PATHS = ['statistics', 'base', 'baseWeights', 'samples', 'with'];
const NAMES = [...TEXTS, ...LISTS, ...FLAGS, ...PATHS];

export interface Request {
  path: string;
  query: string;
}

/** How an archive is to be made. Paths are absolute. */
export interface Recipe {
  /** The model, and what travels with it. */
  files: string[];
  /** Of the archive. */
  name: string;
  options: EncodeOptions;
  statistics: string[];
  base: string | undefined;
  baseWeights: string[];
  calibrate: boolean;
  /** For calibrating: a file or a folder. */
  samples: string | undefined;
}

/** Undefined if the import is not the plugin's. */
export function parseRequest(specifier: string): Request | undefined {
  if (!IMPORTED.test(specifier)) return undefined;
  const start = specifier.indexOf('?');
  return { path: specifier.slice(0, start), query: specifier.slice(start + 1) };
}

/** `path`: of the model, absolute. */
export function recipeOf({ path, query }: Request, { calibrate = true, cacheFolder, ...defaults }: PluginOptions): Recipe {
  if (path.endsWith('.mcwc')) throw new McwcError('argument', 'it is an archive already, whose address any bundler gives');
  const values = readQuery(query);
  const paths = (name: string) => (values.get(name) ?? '').split(',').filter(Boolean).map((relative) => resolve(dirname(path), relative));
  const options = encoderOptions(values, defaults);
  const files = [path, ...paths('with')];
  const [base] = paths('base');
  const [samples] = paths('samples');
  const wanted = values.has('calibrate') ? flag('calibrate', values.get('calibrate')!) : calibrate;
  const calibrated = wanted && files.some(isOnnx) && !options.lossless && !base && !values.has('statistics');
  if (samples && !calibrated) throw new McwcError('argument', 'samples are for calibrating ONNX models, which something else here rules out');
  return {
    files,
    name: basename(path).replace(/\.[^.]+$/, ''),
    options,
    statistics: paths('statistics'),
    base,
    baseWeights: paths('baseWeights'),
    calibrate: calibrated,
    samples,
  };
}

function encoderOptions(values: Map<string, string>, defaults: EncodeOptions): EncodeOptions {
  const isRated = RATES.some((name) => values.has(name));
  const common = Object.entries(defaults).filter(([name]) => !isRated || !RATES.includes(name as never));
  const own = [...values].filter(([name]) => !PATHS.includes(name) && name !== 'calibrate');
  return Object.fromEntries([...common, ...own.map(([name, value]) => [name, typed(name, value)])]);
}

function readQuery(query: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    if (name === 'mcwc') continue;
    if (!NAMES.includes(name)) throw new McwcError('argument', `there is no option ${JSON.stringify(name)}; there are ${NAMES.join(', ')}`);
    if (values.has(name)) throw new McwcError('argument', `${name} is given twice`);
    values.set(name, value);
  }
  return values;
}

/** What values are good for, the encoder says. */
function typed(name: string, value: string): unknown {
  if (FLAGS.includes(name)) return flag(name, value);
  return LISTS.includes(name) ? value.split(',') : value;
}

function flag(name: string, value: string): boolean {
  if (['', 'true', 'false'].includes(value)) return value !== 'false';
  throw new McwcError('argument', `${name} is true or false, not ${JSON.stringify(value)}`);
}
