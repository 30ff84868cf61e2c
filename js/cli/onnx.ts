// Messages of an ONNX file <-> the parts of them that calibration looks at. Field numbers and data types are those of onnx.proto.
import { CalibrationError, reason } from './errors.js';
import { bytesOf, isFloat, toFloats, toIntegers, type StoredType } from './floats.js';
import { concatenate } from '../protobuf.js';
import { Message, serialize } from './protobuf.js';
import { elements } from './safetensors.js';

export const MODEL = { irVersion: 1, graph: 7, opsetImport: 8, functions: 25 };
export const GRAPH = { node: 1, initializer: 5, input: 11, output: 12 };
export const NODE = { input: 1, output: 2, opType: 4, attribute: 5, domain: 7 };
export const ATTRIBUTE = { name: 1, integer: 3, text: 4, tensor: 5, graph: 6, integers: 8, graphs: 11 };
export const TENSOR = {
  dims: 1,
  dataType: 2,
  floats: 4,
  integers: 5,
  longs: 7,
  name: 8,
  raw: 9,
  doubles: 10,
  external: 13,
  location: 14,
};
/** Smaller tensors are not measured. */
export const MIN_ELEMENTS = 1024;

/** Of TensorProto.DataType, with the names that safetensors has for them. */
const DATA_TYPES: Record<number, StoredType> = {
  1: 'F32',
  2: 'U8',
  3: 'I8',
  4: 'U16',
  5: 'I16',
  6: 'I32',
  7: 'I64',
  9: 'BOOL',
  10: 'F16',
  11: 'F64',
  12: 'U32',
  13: 'U64',
  16: 'BF16',
};
export const FLOAT = 1;
export const INT64 = 7;
export const BOOL = 9;

export interface Attribute {
  integer: number;
  text: string;
  integers: number[];
  tensor?: TensorProto;
}

export interface Node {
  op: string;
  domain: string;
  inputs: string[];
  outputs: string[];
  attributes: Map<string, Attribute>;
  /** The node's fields, for those that are written again with other inputs. */
  message: Message;
}

export interface Value {
  name: string;
  type?: StoredType;
  /** A number, or the name of a symbolic size, empty where it has none. */
  shape: (number | string)[];
}

/** Where a model is, and the files that it has beside it. */
export interface ModelFile {
  /** What messages call it. */
  readonly path: string;
  read(): Uint8Array;
  /** Of the file at a path from here, without `..`. */
  readBeside(location: string, offset: number, length: number): Uint8Array;
}

/** A tensor of the file, whose data lie in it or in another file beside it. */
export class TensorProto {
  readonly name: string;
  readonly shape: number[];
  readonly type: StoredType | undefined;

  constructor(
    readonly message: Message,
    readonly file: ModelFile,
  ) {
    this.name = message.text(TENSOR.name);
    this.shape = message.integers(TENSOR.dims);
    this.type = DATA_TYPES[message.integer(TENSOR.dataType)];
  }

  get isExternal(): boolean {
    return this.message.integer(TENSOR.location) === 1;
  }

  get isFloat(): boolean {
    return this.type !== undefined && isFloat(this.type);
  }

  get isWeight(): boolean {
    return this.isFloat && this.shape.length >= 2 && elements(this.shape) >= MIN_ELEMENTS;
  }

  /** Of a tensor of integers whose data lie in the file. */
  integers(): number[] {
    const raw = this.message.last(TENSOR.raw)?.value;
    if (raw instanceof Uint8Array) {
      const whole = this.type && raw.length === elements(this.shape) * bytesOf(this.type);
      return whole ? Array.from(toIntegers(raw, this.type!), Number) : [];
    }
    return this.message.integers(this.type === 'I64' ? TENSOR.longs : TENSOR.integers);
  }

  floats(): Float32Array {
    const data = toFloats(this.#bytes(), this.type!);
    if (data.length === elements(this.shape)) return data;
    throw new CalibrationError(
      `tensor ${this.name}: ${data.length} elements where its shape ${this.shape.join('x')} has others`,
    );
  }

  /** With its data in the file. */
  inlined(): Uint8Array {
    const kept = this.message.fields.filter(({ number }) => number !== TENSOR.external && number !== TENSOR.location);
    return serialize([...kept, [TENSOR.raw, this.#external()]]);
  }

  #bytes(): Uint8Array {
    if (this.isExternal) return this.#external();
    const raw = this.message.last(TENSOR.raw)?.value;
    if (raw instanceof Uint8Array) return raw;
    if (this.type === 'F32') return packed(this.message, TENSOR.floats, 4);
    if (this.type === 'F64') return packed(this.message, TENSOR.doubles, 8);
    return new Uint8Array(Uint16Array.from(this.message.integers(TENSOR.integers)).buffer);
  }

  #external(): Uint8Array {
    const entries = this.message.messages(TENSOR.external).map((entry) => [entry.text(1), entry.text(2)] as const);
    const { location = '', offset = '0', length } = Object.fromEntries(entries) as Record<string, string | undefined>;
    if (/^([\\/]|[A-Za-z]:)/.test(location) || location.split(/[\\/]/).includes('..')) {
      throw new CalibrationError(`tensor ${this.name}: its data file ${location} is not beside the model`);
    }
    const size = Number(length ?? elements(this.shape) * (this.type ? bytesOf(this.type) : 0));
    try {
      return this.file.readBeside(location, Number(offset), size);
    } catch (error) {
      throw new CalibrationError(`tensor ${this.name}: ${reason(error)}`, { cause: error });
    }
  }
}

/** Without a type the runtime infers it. */
export function serializeValue(name: string, type?: number, shape?: number[]): Uint8Array {
  if (type === undefined) return serialize([[1, name]]);
  const dims = (shape ?? []).map((size) => [1, serialize([[1, size]])] as [number, Uint8Array]);
  const tensor: [number, number | Uint8Array][] = shape
    ? [
        [1, type],
        [2, serialize(dims)],
      ]
    : [[1, type]];
  return serialize([
    [1, name],
    [2, serialize([[1, serialize(tensor)]])],
  ]);
}

/** A value of the same name and shape, but of float32. */
export function asFloatValue(value: Message, name: string): Uint8Array {
  const shape = value.message(2)?.message(1)?.last(2)?.value;
  const tensor =
    shape instanceof Uint8Array
      ? serialize([
          [1, FLOAT],
          [2, shape],
        ])
      : serialize([[1, FLOAT]]);
  return serialize([
    [1, name],
    [2, serialize([[1, tensor]])],
  ]);
}

export function serializeNode(op: string, inputs: string[], outputs: string[], attributes: Uint8Array[] = []): Uint8Array {
  return serialize([
    ...inputs.map((name) => [NODE.input, name] as [number, string]),
    ...outputs.map((name) => [NODE.output, name] as [number, string]),
    [NODE.opType, op],
    ...attributes.map((attribute) => [NODE.attribute, attribute] as [number, Uint8Array]),
  ]);
}

export function integerAttribute(name: string, value: number): Uint8Array {
  return serialize([
    [ATTRIBUTE.name, name],
    [ATTRIBUTE.integer, value],
    [20, 2],
  ]);
}

export function integersAttribute(name: string, values: number[]): Uint8Array {
  return serialize([
    [ATTRIBUTE.name, name],
    ...values.map((value) => [ATTRIBUTE.integers, value] as [number, number]),
    [20, 7],
  ]);
}

export function serializeTensor(name: string, type: number, shape: number[], data: Float32Array | BigInt64Array): Uint8Array {
  return serialize([
    ...shape.map((size) => [TENSOR.dims, size] as [number, number]),
    [TENSOR.dataType, type],
    [TENSOR.name, name],
    [TENSOR.raw, new Uint8Array(data.buffer, data.byteOffset, data.byteLength)],
  ]);
}

/** The attributes of a node that have these names, as they are. */
export function keptAttributes(node: Node, names: string[]): Uint8Array[] {
  const attributes = node.message.all(NODE.attribute).map(({ value }) => value as Uint8Array);
  return attributes.filter((attribute) => names.includes(new Message(attribute).text(ATTRIBUTE.name)));
}

export function dataType(type: StoredType): number {
  return Number(Object.keys(DATA_TYPES).find((number) => DATA_TYPES[Number(number)] === type));
}

export function parseNode(message: Message, file: ModelFile): Node {
  const attributes = message.messages(NODE.attribute).map((attribute): [string, Attribute] => {
    const tensor = attribute.message(ATTRIBUTE.tensor);
    return [
      attribute.text(ATTRIBUTE.name),
      {
        integer: attribute.integer(ATTRIBUTE.integer),
        text: attribute.text(ATTRIBUTE.text),
        integers: attribute.integers(ATTRIBUTE.integers),
        tensor: tensor && new TensorProto(tensor, file),
      },
    ];
  });
  const domain = message.text(NODE.domain);
  return {
    op: message.text(NODE.opType),
    domain: domain === 'ai.onnx' ? '' : domain,
    inputs: message.texts(NODE.input),
    outputs: message.texts(NODE.output),
    attributes: new Map(attributes),
    message,
  };
}

export function parseValue(message: Message): Value {
  const tensor = message.message(2)?.message(1);
  const dims = tensor?.message(2)?.messages(1) ?? [];
  const shape = dims.map((dim) => (dim.last(1) ? dim.integer(1) : dim.text(2)));
  return { name: message.text(1), type: DATA_TYPES[tensor?.integer(1) ?? 0], shape };
}

/** Numbers of a fixed width are stored one after the other, or each with its own tag. */
function packed(message: Message, number: number, bytes: number): Uint8Array {
  return concatenate(
    message.all(number).map(({ value }) => {
      return value instanceof Uint8Array ? value : new Uint8Array(BigUint64Array.of(value).buffer, 0, bytes);
    }),
  );
}
