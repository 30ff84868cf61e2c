// What the model runs on: a feed holds one run's inputs by name.
import { CalibrationError } from './errors.js';
import { isFloat, type StoredType } from './floats.js';
import type { Value } from './onnx.js';

export interface Input {
  /** In the runtime's words. Floats of every precision are given as float32. */
  type: 'float32' | 'int64' | 'int32' | 'int16' | 'int8' | 'uint64' | 'uint32' | 'uint16' | 'uint8' | 'bool';
  shape: number[];
  data:
    | Float32Array
    | BigInt64Array
    | BigUint64Array
    | Int32Array
    | Int16Array
    | Int8Array
    | Uint32Array
    | Uint16Array
    | Uint8Array;
}

export type Feed = Map<string, Input>;

/** Numbers as an input of this type. */
export function typed(name: string, type: StoredType | undefined, shape: number[], values: ArrayLike<number> | BigInt64Array): Input {
  if (type === undefined) throw new CalibrationError(`input ${name}: its type is not supported`);
  if (isFloat(type)) {
    const data = values instanceof Float32Array ? values : Float32Array.from(values as ArrayLike<number>, Number);
    const bad = data.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) throw new Error(`input ${name}: element ${bad} is ${data[bad]}`);
    return { type: 'float32', shape, data };
  }
  const [runtimeType, View] = INTEGERS[type as keyof typeof INTEGERS];
  const wide = View === BigInt64Array || View === BigUint64Array;
  if (values instanceof BigInt64Array && View === BigInt64Array) return { type: runtimeType, shape, data: values };
  const data = (View as any).from(values, (value: number | bigint) => {
    if (typeof value === 'number' && !Number.isInteger(value)) throw new Error(`input ${name}: ${value} is not an integer`);
    return wide ? BigInt(value) : Number(value);
  });
  return { type: runtimeType, shape, data };
}

const INTEGERS = {
  I64: ['int64', BigInt64Array],
  I32: ['int32', Int32Array],
  I16: ['int16', Int16Array],
  I8: ['int8', Int8Array],
  U64: ['uint64', BigUint64Array],
  U32: ['uint32', Uint32Array],
  U16: ['uint16', Uint16Array],
  U8: ['uint8', Uint8Array],
  BOOL: ['bool', Uint8Array],
} as const;

export function names(inputs: Value[]): string {
  return inputs.map(({ name }) => name).join(', ');
}
