// Model -> two graphs for the runtime. In the first each weight is an input, so that it can be replaced from run to run and no
// optimization folds it away; the second also returns what the weights are multiplied with: second moments, and looked-up rows.
import { CalibrationError } from './errors.js';
import {
  BOOL,
  FLOAT,
  GRAPH,
  INT64,
  MIN_ELEMENTS,
  MODEL,
  asFloatValue,
  dataType,
  integerAttribute,
  integersAttribute,
  keptAttributes,
  serializeNode,
  serializeTensor,
  serializeValue,
  type Node,
  type TensorProto,
  type Value,
} from './onnx.js';
import { isFloat } from './floats.js';
import type { Model } from './model.js';
import { Message, serialize, type Entry } from './protobuf.js';
import { elements } from './safetensors.js';
import { OTHERWISE } from './subgraphs.js';

/** Most inputs of one output: moments are a square matrix of them. */
const MAX_COLUMNS = 6144;
/** Most elements of the kernel that copies a convolution's windows, and of the moments returned by one run. */
const MAX_WINDOW_KERNEL = 2 ** 24;
const MAX_MOMENTS = 2 ** 27;
/** Most nodes between a weight and what it is multiplied with. */
const MAX_STEPS = 8;
const PRODUCTS = ['MatMul', 'Gemm', 'Conv', 'ConvTranspose'];
/** ONNX Runtime has operators for these. */
const DOMAINS = ['', 'ai.onnx.ml', 'ai.onnx.training', 'ai.onnx.preview.training', 'com.microsoft', 'com.microsoft.nchwc'];
const FUNCTION_DOMAIN = 10;

export interface Weight {
  name: string;
  shape: number[];
  /** The graph input that takes its values, as float32. */
  feed: string;
  tensor: TensorProto;
}

export type MomentsKind = 'column_moments' | 'row_moments';

/** A matrix product whose inputs are observed. */
interface Product {
  weight: Weight;
  kind: MomentsKind;
  columns: number;
  node: Node;
}

/** A `columns` x `columns` output, and one whose first element is the number of positions that were summed. */
export interface Moments {
  sum: string;
  positions: string;
  columns: number;
  weights: Weight[];
}

export interface Lookup {
  rows: string;
  weight: Weight;
}

export interface Observation {
  bytes: Uint8Array;
  moments: Moments[];
  lookups: Lookup[];
}

export class Graph {
  readonly weights: Weight[] = [];
  /** By weight; moments of one kind only. */
  readonly kinds = new Map<Weight, MomentsKind>();
  /** Why a weight gets no moments. */
  readonly notes: string[] = [];
  /** Why a weight is not measured. */
  readonly unmeasured: string[];
  readonly lookups: { weight: Weight; ids: string }[] = [];
  /** Where the outputs can be read as float32. */
  readonly outputs: { name: string; fetch: string }[];
  readonly #products: Product[] = [];
  readonly #producers = new Map<string, Node>();
  readonly #byName: Map<string, Weight>;

  /** `compared` names the outputs to compare; else all that hold floats are, but for a decoder's caches beside others. */
  constructor(
    readonly model: Model,
    compared?: string[],
  ) {
    this.#checkDomains();
    this.unmeasured = model.hidden.map((name) => `${name}: not measured, being a name of several things in branches or loops`);
    const constants = model.nodes.filter(({ op, domain }) => op === 'Constant' && domain === '');
    const tensors = [
      ...model.initializers.map((tensor) => [tensor.name, tensor] as const),
      ...constants.map(({ attributes, outputs }) => [outputs[0], attributes.get('value')?.tensor] as const),
    ];
    for (const [name, tensor] of tensors) {
      if (!tensor?.isWeight) continue;
      this.weights.push({ name, shape: tensor.shape, feed: tensor.type === 'F32' ? name : `mcwc:${name}`, tensor });
    }
    this.#byName = new Map(this.weights.map((weight) => [weight.name, weight]));
    if (this.weights.length === 0) {
      throw new CalibrationError(`${model.path}: no float weight has two axes and ${MIN_ELEMENTS} elements`);
    }
    for (const node of model.nodes) for (const output of node.outputs) this.#producers.set(output, node);
    const floats = comparedOutputs(model, compared);
    this.outputs = floats.map(({ name }) => ({ name, fetch: `mcwc:output:${name}` }));
    for (const node of model.nodes) this.#findUses(node);
    for (const { op, inputs } of model.innerNodes) {
      const inner = PRODUCTS.includes(op) ? this.#weight(inputs[1]) : undefined;
      if (inner) this.#note(inner.weight, 'it is used inside a branch or a loop');
    }
  }

  /** The graph with the weights as inputs. */
  forMeasuring(): Uint8Array {
    const nodes = this.outputs.map(({ name, fetch }) =>
      serializeNode('Cast', [name], [fetch], [integerAttribute('to', FLOAT)]),
    );
    return this.#serialize(
      nodes,
      this.outputs.map(({ fetch }) => fetch),
    );
  }

  /** Graphs that return the lookups, and the moments if asked for: several where one would return too much at once. */
  *forObserving(withMoments: boolean): Generator<Observation> {
    let group: Product[] = [];
    let [lookups, size] = [this.lookups, 0];
    for (const product of withMoments ? this.#products : []) {
      if (size + product.columns ** 2 > MAX_MOMENTS) {
        yield this.#observe(group, lookups);
        [group, lookups, size] = [[], [], 0];
      }
      group.push(product);
      size += product.columns ** 2;
    }
    if (group.length + lookups.length > 0) yield this.#observe(group, lookups);
  }

  /** The graph that returns all that its nodes return, and their names in order. */
  forTracing(): { bytes: Uint8Array; names: string[] } {
    const names = this.model.nodes.flatMap(({ op, outputs }) => (op === 'Constant' ? [] : outputs.filter(Boolean)));
    return { bytes: this.#serialize([], names), names };
  }

  feedName({ name, type }: Value): string {
    return type !== undefined && isFloat(type) && type !== 'F32' ? `mcwc:${name}` : name;
  }

  #checkDomains() {
    const functions = this.model.message.messages(MODEL.functions).map((definition) => definition.text(FUNCTION_DOMAIN));
    const unknown = [...this.model.nodes, ...this.model.innerNodes].find(({ domain }) => !DOMAINS.includes(domain) && !functions.includes(domain));
    if (!unknown) return;
    throw new CalibrationError(
      `${this.model.path}: ONNX Runtime has no operator ${unknown.op} of domain ${unknown.domain} (it makes ` +
        `${unknown.outputs[0]}). Statistics can be made in PyTorch too: scripts/mcwc_statistics.py, see docs/CALIBRATION.md`,
    );
  }

  #findUses(node: Node) {
    if (node.domain !== '') return;
    const { op, attributes, inputs } = node;
    if (op === 'Gather' && (attributes.get('axis')?.integer ?? 0) === 0) {
      const table = this.#weight(inputs[0]);
      if (table && !table.transposed) this.lookups.push({ weight: table.weight, ids: inputs[1] });
    }
    if (!PRODUCTS.includes(op)) return;
    const left = this.#weight(inputs[0]);
    if (left && op !== 'Conv') this.#note(left.weight, 'it is the left operand of a product');
    const right = this.#weight(inputs[1]);
    if (!right) return;
    const { weight, transposed } = right;
    const group = attributes.get('group')?.integer ?? 1;
    const taps = elements(weight.shape.slice(2));
    if (op === 'Conv') {
      const windows = weight.shape[1] * group * taps ** 2;
      if (windows > MAX_WINDOW_KERNEL) return this.#note(weight, 'its kernel is too large');
      return this.#observeProduct({ weight, kind: 'column_moments', columns: weight.shape[1] * taps, node });
    }
    if (op === 'ConvTranspose') {
      if (group > 1) return this.#note(weight, 'it is a transposed convolution with groups');
      return this.#observeProduct({ weight, kind: 'row_moments', columns: weight.shape[0], node });
    }
    if (weight.shape.length !== 2) return this.#note(weight, `it has ${weight.shape.length} axes`);
    const flipped = op === 'Gemm' && (attributes.get('transB')?.integer ?? 0) === 1;
    const byColumns = transposed !== flipped;
    const kind = byColumns ? 'column_moments' : 'row_moments';
    this.#observeProduct({ weight, kind, columns: weight.shape[byColumns ? 1 : 0], node });
  }

  #observeProduct(product: Product) {
    const { weight, kind, columns } = product;
    if (columns > MAX_COLUMNS) return this.#note(weight, `${columns} inputs are more than ${MAX_COLUMNS}`);
    const known = this.kinds.get(weight) ?? kind;
    if (known !== kind) return this.#note(weight, `it is used transposed too; ${known} only`);
    this.kinds.set(weight, kind);
    this.#products.push(product);
  }

  #note(weight: Weight, why: string) {
    this.notes.push(`${weight.name}: no moments, ${why}`);
  }

  /** The weight that a value holds, perhaps transposed. A graph has no cycles, but a file may have. */
  #weight(name: string, steps = MAX_STEPS): { weight: Weight; transposed: boolean } | undefined {
    const weight = this.#byName.get(name);
    if (weight) return { weight, transposed: false };
    const node = this.#producers.get(name);
    if (!node || steps === 0 || !['Identity', 'Cast', 'Transpose'].includes(node.op)) return undefined;
    const found = this.#weight(node.inputs[0], steps - 1);
    if (!found || node.op !== 'Transpose') return found;
    if (found.weight.shape.length !== 2) return undefined;
    const [first] = node.attributes.get('perm')?.integers ?? [1];
    return { ...found, transposed: found.transposed !== (first === 1) };
  }

  #observe(products: Product[], lookups: { weight: Weight; ids: string }[]): Observation {
    const builder = new Builder();
    const moments = new Map<string, Moments>();
    for (const { weight, kind, columns, node } of products) {
      const rows = builder.rows(node, weight, columns);
      const known = moments.get(rows);
      if (known) known.weights.push(weight);
      else moments.set(rows, { ...builder.moments(rows), columns, weights: [weight] });
      this.kinds.set(weight, kind);
    }
    const found = lookups.map(({ weight, ids }) => ({ weight, rows: builder.cast(ids, INT64) }));
    const outputs = [...moments.values()].flatMap(({ sum, positions }) => [sum, positions]);
    const bytes = this.#serialize(builder.nodes, [...outputs, ...new Set(found.map(({ rows }) => rows))], builder.tensors);
    return { bytes, moments: [...moments.values()], lookups: found };
  }

  #serialize(nodes: Uint8Array[], outputs: string[], tensors: Uint8Array[] = []): Uint8Array {
    const { model } = this;
    const inputs = new Map(model.inputs.map((input) => [input.name, input]));
    const first: Entry[] = [];
    const graph: Entry[] = [];
    const replace = (name: string, feed: string, type: number) => {
      if (feed !== name) first.push([GRAPH.node, serializeNode('Cast', [feed], [name], [integerAttribute('to', type)])]);
    };
    let [node, initializer] = [0, 0];
    for (const field of model.graph.fields) {
      if (field.number === GRAPH.node) {
        const { op, outputs } = model.nodes[node++];
        if (op !== 'Constant' || !this.#byName.has(outputs[0])) graph.push(field);
      } else if (field.number === GRAPH.initializer) {
        const tensor = model.initializers[initializer++];
        if (!this.#byName.has(tensor.name)) graph.push(tensor.isExternal ? [GRAPH.initializer, tensor.inlined()] : field);
      } else if (field.number === GRAPH.input) {
        const message = new Message(field.value as Uint8Array);
        const name = message.text(1);
        if (this.#byName.has(name)) continue;
        const input = inputs.get(name);
        const feed = input ? this.feedName(input) : name;
        graph.push(feed === name ? field : [GRAPH.input, asFloatValue(message, feed)]);
        if (feed !== name) replace(name, feed, dataType(input!.type!));
      } else if (field.number !== GRAPH.output) {
        graph.push(field);
      }
    }
    for (const { name, feed, shape, tensor } of this.weights) {
      graph.push([GRAPH.input, serializeValue(feed, FLOAT, shape)]);
      replace(name, feed, dataType(tensor.type!));
    }
    if (model.branches) graph.push([GRAPH.input, serializeValue(OTHERWISE, BOOL, [])]);
    graph.push(...nodes.map((node): Entry => [GRAPH.node, node]));
    graph.push(...tensors.map((tensor): Entry => [GRAPH.initializer, tensor]));
    graph.push(...outputs.map((name): Entry => [GRAPH.output, serializeValue(name)]));
    const kept = model.message.fields.filter(({ number }) => number !== MODEL.graph);
    return serialize([
      ...kept,
      // Since version 4 initializers need not be inputs too. The last of two counts.
      [MODEL.irVersion, Math.max(4, model.message.integer(MODEL.irVersion))],
      [MODEL.graph, serialize([...first, ...graph])],
    ]);
  }
}

function comparedOutputs({ path, outputs }: Model, compared?: string[]): Value[] {
  const floats = outputs.filter(({ type }) => type === undefined || isFloat(type));
  const stray = compared?.find((name) => !floats.some((output) => output.name === name));
  if (stray !== undefined) {
    throw new CalibrationError(
      `${path}: no float output is named ${stray}; it has ${floats.map(({ name }) => name).join(', ')}`,
    );
  }
  if (compared) return floats.filter(({ name }) => compared.includes(name));
  if (floats.length === 0) throw new CalibrationError(`${path}: no output holds floats`);
  const results = floats.filter(({ name }) => !/^present|cache/i.test(name));
  return results.length > 0 ? results : floats;
}

/** Appends nodes to a graph; the same ones only once. */
class Builder {
  readonly nodes: Uint8Array[] = [];
  readonly tensors: Uint8Array[] = [];
  readonly #known = new Map<string, string>();

  cast(name: string, type: number): string {
    return this.#node('Cast', [name], [integerAttribute('to', type)], `${type}`);
  }

  /** The inputs of a product as a matrix, one position after the other. */
  rows(node: Node, { shape }: Weight, columns: number): string {
    const input = this.cast(node.inputs[0], FLOAT);
    if (node.op === 'Conv') return this.#windows(node, input, shape, columns);
    if (node.op === 'ConvTranspose')
      return this.#flatten(this.#transpose(this.#reshape(input, [0, columns, -1]), [0, 2, 1]), columns);
    const flipped = node.op === 'Gemm' && (node.attributes.get('transA')?.integer ?? 0) === 1;
    return this.#flatten(flipped ? this.#transpose(input, [1, 0]) : input, columns);
  }

  moments(rows: string): { sum: string; positions: string } {
    return { sum: this.#node('MatMul', [this.#transpose(rows, [1, 0]), rows]), positions: this.#node('Shape', [rows]) };
  }

  /** A convolution with one channel for each tap of each input channel copies the windows; groups count as positions. */
  #windows(node: Node, input: string, shape: number[], columns: number): string {
    const groups = node.attributes.get('group')?.integer ?? 1;
    const [channels, kernel] = [shape[1] * groups, shape.slice(2)];
    const taps = elements(kernel);
    const data = new Float32Array(channels * taps * taps);
    for (let row = 0; row < channels * taps; row++) data[row * taps + (row % taps)] = 1;
    const weights = this.#tensor(FLOAT, [channels * taps, 1, ...kernel], data);
    const attributes = keptAttributes(node, ['auto_pad', 'pads', 'strides', 'dilations', 'kernel_shape']);
    const key = [...attributes, [channels]].join(';');
    const windows = this.#node('Conv', [input, weights], [...attributes, integerAttribute('group', channels)], key);
    return this.#flatten(this.#transpose(this.#reshape(windows, [0, groups, columns, -1]), [0, 1, 3, 2]), columns);
  }

  #flatten(name: string, columns: number): string {
    return this.#reshape(name, [-1, columns]);
  }

  #reshape(name: string, shape: number[]): string {
    return this.#node('Reshape', [name, this.#tensor(INT64, [shape.length], BigInt64Array.from(shape, BigInt))]);
  }

  #transpose(name: string, order: number[]): string {
    return this.#node('Transpose', [name], [integersAttribute('perm', order)], `${order}`);
  }

  #tensor(type: number, shape: number[], data: Float32Array | BigInt64Array): string {
    return this.#once(`tensor ${type} ${shape} ${type === INT64 ? data : ''}`, (name) => {
      this.tensors.push(serializeTensor(name, type, shape, data));
    });
  }

  #node(op: string, inputs: string[], attributes: Uint8Array[] = [], key = ''): string {
    return this.#once(`${op} ${JSON.stringify(inputs)} ${key}`, (name) => {
      this.nodes.push(serializeNode(op, inputs, [name], attributes));
    });
  }

  #once(key: string, build: (name: string) => void): string {
    const known = this.#known.get(key);
    if (known) return known;
    const name = `mcwc:${this.#known.size}`;
    this.#known.set(key, name);
    build(name);
    return name;
  }
}
