// Which weights of an ONNX graph may become inputs of it, so that a runtime can be given them in GPU buffers: it makes its own
// copy of what is an initializer. Field numbers are those of onnx.proto.
import { concatenate, field } from '../protobuf.js';
import type { DType, TensorInfo } from '../types.js';
import type { Span, SparseBytes } from './protobuf.js';

export const GRAPH = { node: 1, initializer: 5, input: 11 };
export const NODE = { input: 1, output: 2, opType: 4, attribute: 5 };
const VALUE_NAME = 1;
/** TensorProto.DataType. */
const TYPES: Partial<Record<DType, number>> = { f32: 1, f16: 10 };
/** Smaller ones are not worth a buffer each; as initializers they are folded into what they are added to or multiplied with. */
const INPUT_BYTES = 16 << 10;
/** These multiply with their weights on the GPU. What others make of a constant, they would make of an input at each run. */
const OPERATORS = new Set(['MatMul', 'Gemm', 'Conv', 'ConvTranspose', 'Gather']);

/** What uses the values of a graph. */
export interface Uses {
  /** Names of the graph's inputs. */
  inputs: Set<string>;
  /** Whether all that uses this value takes inputs as well as constants. */
  allow(name: string): boolean;
  /** Whether that is worth it for such a tensor. */
  takes(tensor: TensorInfo): boolean;
}

export function usesOf(file: SparseBytes, graph: Span): Uses {
  const inputs = new Set<string>();
  const operators = new Map<string, string[]>();
  for (const { number, value } of file.fields(graph)) {
    const fields = number === GRAPH.node || number === GRAPH.input ? [...file.fields(value)] : [];
    if (number === GRAPH.input) inputs.add(file.text(file.last(fields, VALUE_NAME)!));
    if (number !== GRAPH.node) continue;
    const operator = file.last(fields, NODE.opType);
    for (const input of fields.filter(({ number }) => number === NODE.input)) {
      const name = file.text(input);
      operators.set(name, [...(operators.get(name) ?? []), operator ? file.text(operator) : '']);
    }
  }
  return {
    inputs,
    allow: (name) => operators.get(name)?.every((operator) => OPERATORS.has(operator)) ?? false,
    takes: ({ dtype, bytes }) => dtype in TYPES && bytes >= INPUT_BYTES,
  };
}

/** The field of the graph that declares it. */
export function inputOf(name: string, { dtype, shape }: TensorInfo): Uint8Array<ArrayBuffer> {
  const dims = concatenate(shape.map((size) => field(1, field(1, size))));
  const tensor = concatenate([field(1, TYPES[dtype]!), field(2, dims)]);
  return field(GRAPH.input, concatenate([field(VALUE_NAME, name), field(2, field(1, tensor))]));
}
