// Values of the smaller float types as float32, which holds each of them exactly.
import { McwcError } from './index.js';
import type { DType, TensorData } from './types.js';

/** A float16's exponent and fraction, in the places of a float32's, stand for a value that is too small by this factor. */
const SCALE = 2 ** 112;
/** Magnitude bits of infinity; NaN has more. */
const INFINITE = 0x7c00;

/** The values of a tensor of dtype f32, f16, bf16 or f64; those of f32 are not copied. */
export function toFloat32({ dtype, data }: { dtype: DType; data: TensorData }): TensorData<'f32'> {
  if (data instanceof Float32Array) return data;
  if (dtype === 'bf16' && data instanceof Uint16Array) return ofWords(data, (bits) => bits << 16);
  if (dtype === 'f16' && data instanceof Uint16Array) return ofHalves(data);
  if (dtype === 'f16' || dtype === 'f64') return Float32Array.from(data as Float64Array);
  throw new McwcError('argument', `toFloat32 takes floats, not ${dtype}`);
}

function ofHalves(data: Uint16Array): TensorData<'f32'> {
  const values = ofWords(data, (bits) => ((bits & 0x8000) << 16) | ((bits & 0x7fff) << 13));
  for (let index = 0; index < data.length; index++) {
    const magnitude = data[index] & 0x7fff;
    values[index] *= magnitude < INFINITE ? SCALE : magnitude === INFINITE ? Infinity : NaN;
  }
  return values;
}

function ofWords(data: Uint16Array, wordOf: (bits: number) => number): TensorData<'f32'> {
  const words = new Int32Array(data.length);
  for (let index = 0; index < data.length; index++) words[index] = wordOf(data[index]);
  return new Float32Array(words.buffer);
}
