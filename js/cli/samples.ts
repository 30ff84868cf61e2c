// Files of samples -> what the model runs on.
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { CalibrationError, reason } from './errors.js';
import { bytesOf, isFloat, isStoredType, toFloats, toIntegers, type StoredType } from './floats.js';
import { names, typed, type Feed, type Input } from './inputs.js';
import type { Model } from './model.js';
import type { Value } from './onnx.js';
import { elements, parseSafetensors, type StoredTensor } from './safetensors.js';

const SAMPLE_FILES = ['.safetensors', '.npy', '.json'];
const NPY_TYPES: Record<string, StoredType> = {
  '<f8': 'F64',
  '<f4': 'F32',
  '<f2': 'F16',
  '<i8': 'I64',
  '<i4': 'I32',
  '<i2': 'I16',
  '|i1': 'I8',
  '<u8': 'U64',
  '<u4': 'U32',
  '<u2': 'U16',
  '|u1': 'U8',
  '|b1': 'BOOL',
};

export function samplesFrom(path: string | undefined) {
  return path === undefined ? undefined : (model: Model) => readSamples(path, model);
}

/** A sample in each file of a folder, or one or more in one file. */
function readSamples(path: string, model: Model): { feeds: Feed[]; assumed: string[] } {
  let files: string[];
  try {
    files = statSync(path).isDirectory()
      ? readdirSync(path)
          .sort()
          .map((name) => join(path, name))
      : [path];
  } catch (error) {
    throw new CalibrationError(`cannot read ${path}: ${reason(error)}`, { cause: error });
  }
  const found = files.filter((file) => SAMPLE_FILES.includes(extname(file)));
  if (found.length === 0) throw new CalibrationError(`no samples in ${path}: none of its files is ${SAMPLE_FILES.join(', ')}`);
  const assumed = new Set<string>();
  const feeds = found.flatMap((file) => {
    try {
      return readSample(file, model).map((sample) => checkSample(sample, model, assumed));
    } catch (error) {
      throw new CalibrationError(`sample ${file}: ${reason(error)}`, { cause: error });
    }
  });
  if (feeds.length === 0) throw new CalibrationError(`no samples in ${path}: it is an empty list`);
  return { feeds, assumed: [...assumed] };
}

type Sample = Map<string, StoredTensor | { shape: number[]; numbers: number[] }>;

function readSample(path: string, { inputs }: Model): Sample[] {
  const bytes = readFileSync(path);
  if (extname(path) === '.safetensors') return [parseSafetensors(bytes)];
  const alone = () => {
    if (inputs.length === 1) return inputs[0].name;
    throw new Error(`it names no input, and the model has ${inputs.length}: ${names(inputs)}`);
  };
  if (extname(path) === '.npy') return [new Map([[alone(), parseNpy(bytes)]])];
  const json: unknown = JSON.parse(bytes.toString());
  const sample = (value: unknown): Sample => {
    if (Array.isArray(value) || typeof value === 'number') return new Map([[alone(), nested(value)]]);
    if (typeof value !== 'object' || value === null) throw new Error('it is neither an array nor an object of arrays');
    return new Map(Object.entries(value).map(([name, value]) => [name, nested(value)]));
  };
  const several = Array.isArray(json) && (json.length === 0 || (typeof json[0] === 'object' && !Array.isArray(json[0])));
  return several ? json.map(sample) : [sample(json)];
}

function checkSample(sample: Sample, { inputs }: Model, assumed: Set<string>): Feed {
  const stray = [...sample.keys()].find((name) => !inputs.some((input) => input.name === name));
  if (stray !== undefined) throw new Error(`the model has no input ${stray}; it has ${names(inputs)}`);
  const shapes = [...sample.values()].map(({ shape }) => shape);
  return new Map(
    inputs.map((input) => {
      const { name, type } = input;
      const given = sample.get(name);
      if (!given) return [name, missing(input, shapes[0], assumed)];
      const fits =
        given.shape.length === input.shape.length &&
        input.shape.every((dim, axis) => typeof dim === 'string' || dim === given.shape[axis]);
      if (!fits && input.shape.length > 0) {
        throw new Error(
          `input ${name}: its shape is ${given.shape.join('x')}, the model's ${input.shape.map((dim) => dim || '?').join('x')}`,
        );
      }
      if ('numbers' in given) return [name, typed(name, type, given.shape, given.numbers)];
      const floats = type !== undefined && isFloat(type);
      if (isFloat(given.type) !== floats) {
        throw new Error(`input ${name}: the model takes ${floats ? 'floats' : 'integers'} (${type}), not ${given.type}`);
      }
      return [
        name,
        typed(name, type, given.shape, floats ? toFloats(given.bytes, given.type) : toIntegers(given.bytes, given.type)),
      ];
    }),
  );
}

/** Masks and such need not be given: their values follow from the others. */
function missing({ name, type, shape }: Value, like: number[] | undefined, assumed: Set<string>): Input {
  const simple = /mask/i.test(name) ? 1 : /type|segment/i.test(name) ? 0 : undefined;
  if (simple === undefined || !like || like.length !== shape.length) throw new Error(`input ${name} is missing`);
  assumed.add(`${name}: ${simple ? 'ones' : 'zeros'}`);
  return typed(name, type, like, new Float64Array(elements(like)).fill(simple));
}

function parseNpy(bytes: Uint8Array): StoredTensor {
  const magic = String.fromCharCode(...bytes.subarray(1, 6));
  if (bytes[0] !== 0x93 || magic !== 'NUMPY') throw new Error('it is not a .npy file');
  const wide = bytes[6] > 1;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const start = wide ? 12 : 10;
  const data = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder().decode(bytes.subarray(start, data));
  const descr = /'descr': *'([^']*)'/.exec(header)?.[1] ?? '';
  const type = NPY_TYPES[descr];
  if (!isStoredType(type)) throw new Error(`its type ${descr} is not supported`);
  if (/'fortran_order': *True/.test(header)) throw new Error('it is in Fortran order: save numpy.ascontiguousarray(x)');
  const sizes = /'shape': *\(([^)]*)\)/.exec(header)?.[1] ?? '';
  const shape = sizes
    .split(',')
    .map((size) => size.trim())
    .filter(Boolean)
    .map(Number);
  const stored = bytes.subarray(data);
  if (stored.length !== elements(shape) * bytesOf(type)) throw new Error('its data are not those of its shape');
  return { type, shape, bytes: stored };
}

function nested(value: unknown): { shape: number[]; numbers: number[] } {
  const shape: number[] = [];
  for (let inner = value; Array.isArray(inner); inner = inner[0]) shape.push(inner.length);
  const numbers: number[] = [];
  const walk = (value: unknown, axis: number) => {
    if (axis === shape.length) {
      if (typeof value === 'boolean') value = Number(value);
      if (typeof value !== 'number') throw new Error(`${JSON.stringify(value)} is not a number`);
      numbers.push(value);
    } else {
      if (!Array.isArray(value) || value.length !== shape[axis]) throw new Error('its arrays are of different lengths');
      for (const inner of value) walk(inner, axis + 1);
    }
  };
  walk(value, 0);
  return { shape, numbers };
}
