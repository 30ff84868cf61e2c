// Protobuf bytes <-> fields. Knows no schema: a message is a list of numbered fields, each with the bytes it came from, so that
// a message can be written again with some of its fields replaced and all others as they were.
import { concatenate, field } from '../protobuf.js';

export interface Field {
  number: number;
  /** Varints and fixed-width numbers, as they are stored; everything else as bytes. */
  value: bigint | Uint8Array;
  /** The field with its tag. */
  encoded: Uint8Array;
}

export class Message {
  readonly fields: Field[] = [];

  constructor(readonly bytes: Uint8Array) {
    const reader = new Reader(bytes);
    while (!reader.atEnd) this.fields.push(reader.field());
  }

  all(number: number): Field[] {
    return this.fields.filter((field) => field.number === number);
  }

  /** Of a field that appears more than once the last counts. */
  last(number: number): Field | undefined {
    return this.fields.findLast((field) => field.number === number);
  }

  text(number: number): string {
    const value = this.last(number)?.value;
    return value instanceof Uint8Array ? decodeText(value) : '';
  }

  texts(number: number): string[] {
    return this.all(number).map(({ value }) => decodeText(asBytes(value)));
  }

  integer(number: number, otherwise = 0): number {
    const value = this.last(number)?.value;
    return typeof value === 'bigint' ? signed(value) : otherwise;
  }

  /** Repeated integers, packed or not. */
  integers(number: number): number[] {
    return this.all(number).flatMap(({ value }) => (typeof value === 'bigint' ? [signed(value)] : unpack(value)));
  }

  message(number: number): Message | undefined {
    const value = this.last(number)?.value;
    return value === undefined ? undefined : new Message(asBytes(value));
  }

  messages(number: number): Message[] {
    return this.all(number).map(({ value }) => new Message(asBytes(value)));
  }
}

/** A field that was read is written as it was. */
export type Entry = Field | [number: number, value: number | string | Uint8Array];

export function serialize(entries: Entry[]): Uint8Array {
  return concatenate(entries.map((entry) => (Array.isArray(entry) ? field(...entry) : entry.encoded)));
}

class Reader {
  #at = 0;

  constructor(readonly bytes: Uint8Array) {}

  get atEnd(): boolean {
    return this.#at === this.bytes.length;
  }

  field(): Field {
    const start = this.#at;
    const tag = Number(this.varint());
    const value = this.#value(tag % 8);
    return { number: Math.floor(tag / 8), value, encoded: this.bytes.subarray(start, this.#at) };
  }

  varint(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#take(1)[0];
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new Error('a number is too long');
  }

  #value(wire: number): bigint | Uint8Array {
    if (wire === 0) return this.varint();
    if (wire === 1) return this.#fixed(8);
    if (wire === 2) return this.#take(Number(this.varint()));
    if (wire === 5) return this.#fixed(4);
    throw new Error(`wire type ${wire} is unknown`);
  }

  #fixed(bytes: number): bigint {
    return this.#take(bytes).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  }

  #take(length: number): Uint8Array {
    if (length > this.bytes.length - this.#at) throw new Error('it ends inside a field');
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }
}

function unpack(bytes: Uint8Array): number[] {
  const reader = new Reader(bytes);
  const values: number[] = [];
  while (!reader.atEnd) values.push(signed(reader.varint()));
  return values;
}

function signed(value: bigint): number {
  return Number(BigInt.asIntN(64, value));
}

function asBytes(value: bigint | Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new Error('a number stands where a message should');
}

function decodeText(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
