// What `encode` is given -> the command's arguments, and the files that it finds in memory.
import { McwcError } from '../errors.js';
import { nodeModule } from '../platform.js';
import type { EncodeOptions, EncoderData, EncoderFile } from './encoding.js';
import { MEMORY, pathInside, type Request } from './protocol.js';

export const OUTPUT = 'output/archive.mcwc';

type Files = Request['files'];

/** Paths for the command, by what they are for. */
export interface Inputs {
  models: string[];
  statistics: string[];
  base: string[];
  baseWeights: string[];
}

/** All that there are: one that is misspelt would be ignored, and another archive made than was meant. */
const OPTIONS: Record<keyof EncodeOptions, true> = {
  bits: true,
  size: true,
  quality: true,
  preset: true,
  lossless: true,
  adaptive: true,
  progressive: true,
  statistics: true,
  base: true,
  baseWeights: true,
  exclude: true,
  lenient: true,
  quantizer: true,
  lanes: true,
  unitOrder: true,
  onProgress: true,
  signal: true,
  workerUrl: true,
  wasmUrl: true,
};

export function refuseUnknown(options: object): void {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(OPTIONS, name));
  if (unknown === undefined) return;
  throw new McwcError('argument', `there is no option ${JSON.stringify(unknown)}; there are ${Object.keys(OPTIONS).join(', ')}`);
}

export async function collectFiles(
  models: EncoderFile | readonly EncoderFile[],
  { statistics, base, baseWeights }: EncodeOptions,
): Promise<{ inputs: Inputs; inMemory: Files }> {
  const inMemory: Files = [];
  const inputs = {
    models: await addModels('files', models, inMemory),
    statistics: await addData('statistics', statistics, '.safetensors', inMemory),
    base: await addData('base', base, '.mcwc', inMemory),
    baseWeights: await addModels('base-weights', baseWeights, inMemory),
  };
  if (inputs.models.length === 0) throw new McwcError('argument', 'there is no file to encode');
  return { inputs, inMemory };
}

export function commandLine({ models, statistics, base, baseWeights }: Inputs, options: EncodeOptions): string[] {
  const values: [option: string, value: unknown][] = [
    ['bits', options.bits],
    ['size', options.size],
    ['quality', options.quality],
    ['preset', options.preset],
    ['progressive', options.progressive?.join(',')],
    ['quantizer', options.quantizer],
    ['lanes', options.lanes],
    ['unit-order', options.unitOrder],
    ...[options.exclude ?? [], statistics, base, baseWeights].flatMap((list, index) => {
      return list.map((value): [string, unknown] => [['exclude', 'calibration', 'base', 'base-weights'][index], value]);
    }),
  ];
  const given = values.filter(([, value]) => value !== undefined).map(([option, value]) => `--${option}=${value}`);
  const flags = (['lossless', 'adaptive', 'lenient'] as const).filter((name) => options[name]).map((name) => `--${name}`);
  return ['encode', '--json', '--progress-lines', ...flags, ...given, '-o', `${MEMORY}/${OUTPUT}`, '--', ...models];
}

/** Those of one folder are given as that folder. */
async function addModels(folder: string, files: EncoderFile | readonly EncoderFile[] | undefined, inMemory: Files): Promise<string[]> {
  const paths = new Set<string>();
  for (const file of list(files)) {
    if (typeof file === 'string') {
      paths.add(nodePath(file));
      continue;
    }
    const { name } = file;
    const parts = typeof name === 'string' ? name.split('/') : [];
    if (parts.length === 0 || parts.some((part) => ['', '.', '..'].includes(part))) {
      throw new McwcError('argument', `a file needs a name, not ${JSON.stringify(name)}`);
    }
    const path = `${folder}/${name}`;
    if (inMemory.some(([other]) => other === path)) throw new McwcError('argument', `two files are named ${JSON.stringify(name)}`);
    inMemory.push([path, await readable(file instanceof Blob ? file : file.data)]);
    // The command runs in `files`, and so names a file in its messages as it is named here.
    paths.add(folder === 'files' ? parts[0] : `${MEMORY}/${folder}/${parts[0]}`);
  }
  return [...paths];
}

async function addData(
  folder: string,
  given: EncoderData | readonly EncoderData[] | undefined,
  ending: string,
  inMemory: Files,
): Promise<string[]> {
  const paths: string[] = [];
  for (const [index, data] of list(given).entries()) {
    const path = `${folder}/${index}${ending}`;
    if (typeof data !== 'string') inMemory.push([path, await readable(data)]);
    paths.push(typeof data === 'string' ? nodePath(data) : `${MEMORY}/${path}`);
  }
  return paths;
}

function list<T>(given: T | readonly T[] | undefined): readonly T[] {
  if (given === undefined) return [];
  return Array.isArray(given) ? given : [given as T];
}

function nodePath(path: string): string {
  const resolve = nodeModule('node:path')?.resolve;
  if (!resolve) throw new McwcError('argument', `${path}: browsers open no paths; give a File, or bytes with a name`);
  return pathInside(resolve(path));
}

/** What a thread can read at once: in Node that is no Blob. */
async function readable(data: Blob | ArrayBuffer | ArrayBufferView): Promise<Blob | Uint8Array> {
  if (data instanceof Blob) return nodeModule('node:fs') ? new Uint8Array(await data.arrayBuffer()) : data;
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new McwcError('argument', 'a file has to be a Blob or bytes');
}
