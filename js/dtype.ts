// Bytes -> the typed array that shows them best.
import type { DType, TensorData } from './types.js';

type ArrayType = { BYTES_PER_ELEMENT: number; new (buffer: ArrayBuffer, offset: number, length: number): TensorData };

const ARRAYS: Partial<Record<DType, ArrayType>> = {
  f32: Float32Array,
  f16: (globalThis as { Float16Array?: ArrayType }).Float16Array ?? Uint16Array,
  bf16: Uint16Array,
  f64: Float64Array,
  i8: Int8Array,
  i16: Int16Array,
  u16: Uint16Array,
  i32: Int32Array,
  u32: Uint32Array,
  i64: BigInt64Array,
  u64: BigUint64Array,
};

export function dataOf(dtype: DType, buffer: ArrayBuffer, bytes: number): TensorData {
  const Data = ARRAYS[dtype] ?? Uint8Array;
  return new Data(buffer, 0, bytes / Data.BYTES_PER_ELEMENT);
}
