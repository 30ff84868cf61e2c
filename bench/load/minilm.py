"""Weights of all-MiniLM-L6-v2 -> an ONNX model of the whole network: token ids [batch, time] -> normalized sentence embeddings [batch, 384].

    python minilm.py WEIGHTS.safetensors MODEL.onnx

Matrices are stored as exporters store them, with a row for each input. No padding, hence no mask.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

HEADS, HEAD = 12, 32
WIDTH = HEADS * HEAD
EPSILON = 1e-12


class Graph:
    """Nodes and initializers, added in the order of the computation. Each value has the name of what made it."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, op, *inputs, **attributes):
        output = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def model(self, inputs, outputs):
        graph = helper.make_graph(self.nodes, "MiniLM", inputs, outputs, self.initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def minilm(weights):
    graph = Graph()
    add, constant = graph.add, graph.constant
    stored = lambda name: constant(name, weights[name])
    norm = lambda x, name: add("LayerNormalization", x, stored(f"{name}.weight"), stored(f"{name}.bias"), axis=-1, epsilon=EPSILON)
    linear = lambda x, name: add("Add", add("MatMul", x, constant(f"{name}.weight", weights[f"{name}.weight"].T)), stored(f"{name}.bias"))
    split, merge = constant("split", np.int64([0, 0, HEADS, HEAD])), constant("merge", np.int64([0, 0, WIDTH]))
    scale = constant("scale", np.float32(HEAD ** -0.5))
    heads = lambda x, axes: add("Transpose", add("Reshape", x, split), perm=axes)

    count = len(weights["embeddings.position_embeddings.weight"])
    positions = add("Slice", constant("positions", np.arange(count)), constant("start", np.int64([0])), add("Shape", "ids", start=1))
    x = add("Gather", stored("embeddings.word_embeddings.weight"), "ids")
    x = add("Add", x, add("Gather", stored("embeddings.position_embeddings.weight"), positions))
    x = add("Add", x, constant("embeddings.token_type", weights["embeddings.token_type_embeddings.weight"][0]))
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(sum(name.endswith("intermediate.dense.weight") for name in weights)):
        p = f"encoder.layer.{layer}."
        query = heads(linear(x, f"{p}attention.self.query"), [0, 2, 1, 3])
        key = heads(linear(x, f"{p}attention.self.key"), [0, 2, 3, 1])
        value = heads(linear(x, f"{p}attention.self.value"), [0, 2, 1, 3])
        attention = add("Softmax", add("Mul", add("MatMul", query, key), scale), axis=-1)
        mixed = add("Reshape", add("Transpose", add("MatMul", attention, value), perm=[0, 2, 1, 3]), merge)
        x = norm(add("Add", x, linear(mixed, f"{p}attention.output.dense")), f"{p}attention.output.LayerNorm")
        hidden = add("Gelu", linear(x, f"{p}intermediate.dense"))
        x = norm(add("Add", x, linear(hidden, f"{p}output.dense")), f"{p}output.LayerNorm")
    mean = add("ReduceMean", x, constant("times", np.int64([1])), keepdims=0)
    graph.nodes.append(helper.make_node("LpNormalization", [mean], ["embedding"], axis=-1, p=2))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])
    return graph.model([ids], [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", WIDTH])])


if __name__ == "__main__":
    source, out = sys.argv[1:]
    onnx.save(minilm(load_file(source)), out)
