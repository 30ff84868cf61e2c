// Protobuf of which only the structure is here: fields of a file that has bytes missing between them, and fields to write.

/** Bytes of the file, up to and not including `end`. */
export type Span = readonly [start: number, end: number];

export interface Field {
  number: number;
  /** The field with its tag. */
  span: Span;
  /** Its value; for those that carry their length, what follows it. */
  value: Span;
  /** Whether it carries its length: text, bytes and messages do. */
  delimited: boolean;
}

/** A file that is here in part. */
export class SparseBytes {
  #found = 0;
  #starts: number[] = [];

  /** `bytes`: those of the spans, which ascend, one after another. */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly spans: readonly Span[],
  ) {
    spans.reduce((at, [start, end]) => (this.#starts.push(at), at + end - start), 0);
  }

  *fields([start, end]: Span): Generator<Field> {
    for (let at = start; at < end; ) {
      const [tag, from] = this.#varint(at);
      const [value, delimited] = this.#value(tag % 8, from);
      if (value[1] > end) throw new Error('a field ends outside its message');
      yield { number: Math.floor(tag / 8), span: [at, value[1]], value, delimited };
      at = value[1];
    }
  }

  /** The last of these fields, which is the one that counts. */
  last(fields: readonly Field[], number: number): Field | undefined {
    return fields.findLast((field) => field.number === number);
  }

  integer({ value: [start] }: Field): number {
    return this.#varint(start)[0];
  }

  text({ value: [start, end] }: Field): string {
    return new TextDecoder().decode(Uint8Array.from({ length: end - start }, (_, index) => this.#at(start + index)));
  }

  #value(wire: number, at: number): [Span, boolean] {
    if (wire === 0) return [[at, this.#varint(at)[1]], false];
    if (wire === 1) return [[at, at + 8], false];
    if (wire === 5) return [[at, at + 4], false];
    if (wire !== 2) throw new Error(`wire type ${wire} is unknown`);
    const [length, from] = this.#varint(at);
    return [[from, from + length], true];
  }

  /** Its value, and where it ends. Beyond 2⁵³ it is not exact, and none that is looked at is. */
  #varint(at: number): [number, number] {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = this.#at(at++);
      value += (byte & 127) * scale;
      if (byte < 128) return [value, at];
    }
  }

  #at(offset: number): number {
    // What is read next is near what was read last.
    while (this.#found > 0 && offset < this.spans[this.#found][0]) this.#found--;
    while (offset >= this.spans[this.#found]?.[1]) this.#found++;
    const [start, end] = this.spans[this.#found] ?? [];
    if (!(start <= offset && offset < end)) throw new Error('a field of the structure lies in a tensor');
    return this.bytes[this.#starts[this.#found] + offset - start];
  }
}

/** Numbers become varints; text, bytes and messages have their length before them. */
export function field(number: number, value: number | string | Uint8Array): Uint8Array {
  if (typeof value === 'number') return concatenate([varint(number * 8), varint(value)]);
  const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
  return concatenate([opening(number, bytes.length), bytes]);
}

/** What comes before that many bytes of a field. */
export function opening(number: number, length: number): Uint8Array {
  return concatenate([varint(number * 8 + 2), varint(length)]);
}

export function concatenate(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

function varint(value: number): Uint8Array {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return Uint8Array.of(...bytes, value);
}
