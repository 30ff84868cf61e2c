// ONNX file -> its graph, whose branches and loops have their weights in common with it.
import { CalibrationError, reason } from './errors.js';
import { GRAPH, MODEL, TENSOR, TensorProto, parseNode, parseValue, type ModelFile, type Node, type Value } from './onnx.js';
import { Message } from './protobuf.js';
import { flatten, subgraphs } from './subgraphs.js';

export class Model {
  readonly message: Message;
  readonly graph: Message;
  /** Of the main graph. */
  readonly nodes: Node[];
  /** Of the graphs that those nodes hold, however deep. */
  readonly innerNodes: Node[];
  readonly initializers: TensorProto[];
  /** Initializers, and tensors of `Constant` nodes, of all graphs. */
  readonly constants = new Map<string, TensorProto>();
  /** Whether some of the graph runs only if a condition holds, which the input `OTHERWISE` turns over. */
  readonly branches: boolean;
  /** Weights inside branches and loops that cannot be told apart by name. */
  readonly hidden: string[];
  /** Those that have to be given: older files list the initializers too. */
  readonly inputs: Value[];
  readonly outputs: Value[];

  constructor(readonly file: ModelFile) {
    const { path } = file;
    const bytes = file.read();
    try {
      this.message = new Message(bytes);
      const graph = this.message.message(MODEL.graph);
      if (!graph) throw new Error('it holds no graph');
      const flattened = flatten(graph, file);
      this.graph = flattened.graph;
      this.branches = flattened.branches;
      this.hidden = flattened.hidden;
      this.nodes = this.graph.messages(GRAPH.node).map((node) => parseNode(node, file));
      this.innerNodes = this.nodes.flatMap(({ message }) => this.#inner(message));
      this.initializers = this.graph.messages(GRAPH.initializer).map((tensor) => new TensorProto(tensor, file));
      for (const tensor of this.initializers) this.constants.set(tensor.name, tensor);
      for (const { op, attributes, outputs } of [...this.nodes, ...this.innerNodes]) {
        const tensor = op === 'Constant' ? attributes.get('value')?.tensor : undefined;
        if (tensor) this.constants.set(outputs[0], tensor);
      }
      const given = new Set(this.initializers.map(({ name }) => name));
      this.inputs = graph
        .messages(GRAPH.input)
        .map(parseValue)
        .filter(({ name }) => !given.has(name));
      this.outputs = graph.messages(GRAPH.output).map(parseValue);
    } catch (error) {
      throw new CalibrationError(`${path} is not a readable ONNX model: ${reason(error)}`, { cause: error });
    }
  }

  get path(): string {
    return this.file.path;
  }

  #inner(node: Message): Node[] {
    return subgraphs(node).flatMap((graph) => {
      for (const tensor of graph.messages(GRAPH.initializer)) {
        this.constants.set(tensor.text(TENSOR.name), new TensorProto(tensor, this.file));
      }
      const nodes = graph.messages(GRAPH.node).map((inner) => parseNode(inner, this.file));
      return [...nodes, ...nodes.flatMap(({ message }) => this.#inner(message))];
    });
  }
}
