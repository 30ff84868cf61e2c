// Protobuf of which only the structure is here: fields of a file that has bytes missing between them.

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
