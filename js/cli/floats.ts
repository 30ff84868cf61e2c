// Stored numbers of any type -> float32, which is what everything is measured in.

/** The types of safetensors, under its names. */
export type StoredType = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U64' | 'U32' | 'U16' | 'U8' | 'BOOL';

const VIEWS = {
  F64: Float64Array,
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I64: BigInt64Array,
  I32: Int32Array,
  I16: Int16Array,
  I8: Int8Array,
  U64: BigUint64Array,
  U32: Uint32Array,
  U16: Uint16Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

export function isStoredType(name: unknown): name is StoredType {
  return typeof name === 'string' && name in VIEWS;
}

export function isFloat(type: StoredType): boolean {
  return type.includes('F');
}

export function bytesOf(type: StoredType): number {
  return VIEWS[type].BYTES_PER_ELEMENT;
}

/** A copy, whatever the alignment of `bytes`; Node's buffers have a `slice` that is none. */
function view(bytes: Uint8Array, type: StoredType) {
  return new VIEWS[type](new Uint8Array(bytes).buffer);
}

export function toFloats(bytes: Uint8Array, type: StoredType): Float32Array {
  const stored = view(bytes, type);
  if (stored instanceof Float32Array) return stored;
  if (type === 'F16') return Float32Array.from(stored as Uint16Array, halfToFloat);
  if (type === 'BF16') return new Float32Array(Uint32Array.from(stored as Uint16Array, (bits) => bits << 16).buffer);
  return Float32Array.from(stored as ArrayLike<number>, Number);
}

export function toIntegers(bytes: Uint8Array, type: StoredType): BigInt64Array {
  const stored = view(bytes, type);
  return stored instanceof BigInt64Array ? stored : BigInt64Array.from(Array.from(stored as ArrayLike<number>, BigInt));
}

export function halfToFloat(bits: number): number {
  const [sign, exponent, mantissa] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + mantissa / 1024) * 2 ** (exponent - 15) : mantissa * 2 ** -24);
}
