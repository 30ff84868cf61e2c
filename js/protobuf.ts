// Protobuf fields, written. Those who read it keep what they need of a message: js/adapters/protobuf.ts, js/cli/protobuf.ts.

/** Numbers become varints; text, bytes and messages have their length before them. */
export function field(number: number, value: number | string | Uint8Array): Uint8Array<ArrayBuffer> {
  if (typeof value === 'number') return concatenate([varint(number * 8), varint(value)]);
  const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
  return concatenate([opening(number, bytes.length), bytes]);
}

/** What comes before that many bytes of a field. */
export function opening(number: number, length: number): Uint8Array<ArrayBuffer> {
  return concatenate([varint(number * 8 + 2), varint(length)]);
}

export function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/** Negative numbers take ten bytes. */
function varint(value: number): Uint8Array {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return Uint8Array.of(...bytes, Number(rest));
}
