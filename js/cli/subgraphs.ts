// Graph -> the same graph with the weights of its branches and loops among its own, where they can be replaced from run to run,
// and with branches that can be made to go the other way.
import { ATTRIBUTE, GRAPH, NODE, TENSOR, TensorProto, serializeNode, type ModelFile } from './onnx.js';
import { Message, serialize, type Entry, type Field } from './protobuf.js';

/** A graph input: true makes every `If` that holds or takes weights go the other way. */
export const OTHERWISE = 'mcwc:otherwise';

export interface Flattened {
  graph: Message;
  branches: boolean;
  /** Weights that stay inside because others have their names. */
  hidden: string[];
}

export function flatten(graph: Message, file: ModelFile): Flattened {
  const nodes = graph.messages(GRAPH.node);
  if (!nodes.some((node) => subgraphs(node).length > 0)) return { graph, branches: false, hidden: [] };
  const flattening = new Flattening(file);
  flattening.collect(graph);
  const entries = flattening.graph(graph, true);
  const hoisted = flattening.hoisted.map((tensor): Entry => [GRAPH.initializer, tensor]);
  const message = new Message(serialize([...hoisted, ...entries]));
  return { graph: message, branches: flattening.branches > 0, hidden: [...flattening.hidden] };
}

/** The graphs that a node holds. */
export function subgraphs(node: Message): Message[] {
  return node
    .messages(NODE.attribute)
    .flatMap((attribute) => [...attribute.messages(ATTRIBUTE.graph), ...attribute.messages(ATTRIBUTE.graphs)]);
}

class Flattening {
  readonly hoisted: Uint8Array[] = [];
  readonly hidden = new Set<string>();
  branches = 0;

  /** How many initializers and nodes give a value each name. */
  readonly #names = new Map<string, number>();
  readonly #weights = new Set<string>();

  constructor(readonly file: ModelFile) {}

  /** Learns the names of a graph and of those inside it. */
  collect(graph: Message) {
    const count = (name: string) => this.#names.set(name, (this.#names.get(name) ?? 0) + 1);
    for (const message of graph.messages(GRAPH.initializer)) {
      const tensor = new TensorProto(message, this.file);
      count(tensor.name);
      if (tensor.isWeight) this.#weights.add(tensor.name);
    }
    for (const node of graph.messages(GRAPH.node)) {
      node.texts(NODE.output).forEach(count);
      const constant = constantOf(node, this.file);
      if (constant?.tensor.isWeight) this.#weights.add(constant.name);
      for (const inner of subgraphs(node)) this.collect(inner);
    }
  }

  /** Whether a node inside a node takes a weight. */
  #takesWeights(node: Message): boolean {
    return subgraphs(node).some((graph) =>
      graph.messages(GRAPH.node).some((inner) => {
        return inner.texts(NODE.input).some((name) => this.#weights.has(name)) || this.#takesWeights(inner);
      }),
    );
  }

  graph(graph: Message, isMain: boolean): Entry[] {
    const outputs = graph.messages(GRAPH.output).map((output) => output.text(1));
    return graph.fields.flatMap((field): Entry[] => {
      if (field.number === GRAPH.node) {
        const node = messageOf(field);
        const constant = isMain ? undefined : constantOf(node, this.file);
        if (constant && this.#hoist(constant.name, constant.tensor, outputs)) return [];
        return this.#node(node);
      }
      if (field.number !== GRAPH.initializer || isMain) return [field];
      const tensor = new TensorProto(messageOf(field), this.file);
      if (this.#hoist(tensor.name, tensor, outputs)) return [];
      return [tensor.isExternal ? [GRAPH.initializer, tensor.inlined()] : field];
    });
  }

  /** Whether a tensor of a subgraph went to the main graph. What a subgraph returns must be its own. */
  #hoist(name: string, tensor: TensorProto, outputs: string[]): boolean {
    if (!tensor.isWeight) return false;
    if (this.#names.get(name) !== 1 || outputs.includes(name)) {
      this.hidden.add(name);
      return false;
    }
    this.hoisted.push(serialize([...tensor.message.fields, [TENSOR.name, name]]));
    return true;
  }

  #node(node: Message): Entry[] {
    if (subgraphs(node).length === 0) return [[GRAPH.node, node.bytes]];
    // Other branches are about shapes; the one that is not taken could not run.
    const turns = node.text(NODE.opType) === 'If' && this.#takesWeights(node);
    const condition = turns ? node.texts(NODE.input)[0] : undefined;
    const turned = `mcwc:if:${this.branches}`;
    if (condition !== undefined) this.branches += 1;
    const fields = node.fields.map((field): Entry => {
      if (field.number === NODE.input && condition !== undefined) return [NODE.input, turned];
      return field.number === NODE.attribute ? [NODE.attribute, this.#attribute(messageOf(field))] : field;
    });
    const rewritten: Entry = [GRAPH.node, serialize(fields)];
    if (condition === undefined) return [rewritten];
    return [[GRAPH.node, serializeNode('Xor', [condition, OTHERWISE], [turned])], rewritten];
  }

  #attribute(attribute: Message): Uint8Array {
    return serialize(
      attribute.fields.map((field): Entry => {
        const isGraph = field.number === ATTRIBUTE.graph || field.number === ATTRIBUTE.graphs;
        return isGraph ? [field.number, serialize(this.graph(messageOf(field), false))] : field;
      }),
    );
  }
}

/** The tensor of a `Constant` node, and the name that it goes by. */
function constantOf(node: Message, file: ModelFile): { name: string; tensor: TensorProto } | undefined {
  if (node.text(NODE.opType) !== 'Constant') return undefined;
  const tensor = node
    .messages(NODE.attribute)
    .find((attribute) => attribute.text(ATTRIBUTE.name) === 'value')
    ?.message(ATTRIBUTE.tensor);
  return tensor && { name: node.texts(NODE.output)[0], tensor: new TensorProto(tensor, file) };
}

function messageOf({ value }: Field): Message {
  if (value instanceof Uint8Array) return new Message(value);
  throw new Error('a number stands where a message should');
}
