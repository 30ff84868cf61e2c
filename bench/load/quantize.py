"""A float32 ONNX model -> the same with its weights as others ship them.

    python quantize.py MODEL.onnx OUT.onnx fp16|int8|4bit

fp16 and int8 are unpacked by nodes that onnxruntime folds away when it loads the model, but for tables, of which only the rows that are
looked up are unpacked. int8 is symmetric, one scale for each output. 4bit are onnxruntime's MatMulNBits and GatherBlockQuantized, blocks of
32 along the inputs, with scales in fp16 and zero points; what these two do not multiply or look up stays as it is.
"""
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi._pybind_state import quantize_matmul_4bits

MIN_ELEMENTS = 1024
BLOCK = 32
MICROSOFT = "com.microsoft"


def rewritten(model, encoding):
    """
    The model with its weights encoded. `encoding` gets a weight and a node that reads it, and gives nodes and initializers: the nodes make
    the weight of them, or the node's own output. Nothing, if the weight is to stay as it is.
    """
    graph = model.graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if is_weight(tensor)}
    nodes, initializers, encoded, unpacked = [], {}, set(), set()
    for node in graph.node:
        makers = [node]
        for name in [name for name in node.input if name in weights and name not in unpacked]:
            found = encoding(name, weights[name], node)
            if not found:
                continue
            added, tensors = found
            initializers |= {tensor.name: tensor for tensor in tensors}
            encoded.add(name)
            if node.output[0] in added[-1].output:
                makers = added
            else:
                makers = [*added, *makers]
                unpacked.add(name)
        nodes += makers
    kept = [tensor for tensor in graph.initializer if tensor.name not in encoded]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *initializers.values()])
    return model


def is_weight(tensor):
    return tensor.data_type == TensorProto.FLOAT and len(tensor.dims) >= 2 and np.prod(tensor.dims) >= MIN_ELEMENTS


def fp16(name, weight, node):
    half = numpy_helper.from_array(weight.astype(np.float16), f"{name}.fp16")
    if node.op_type != "Gather":
        return [cast(half.name, name)], [half]
    row = f"{node.output[0]}.fp16"
    return [helper.make_node("Gather", [half.name, node.input[1]], [row]), cast(row, node.output[0])], [half]


def int8(name, weight, node):
    axis = outputs_axis(node, name, weight)
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scale = np.maximum(np.abs(weight).max(others, keepdims=True) / 127, 1e-12).astype(np.float32)
    levels = numpy_helper.from_array(np.round(weight / scale).astype(np.int8), f"{name}.int8")
    scales = numpy_helper.from_array(scale, f"{name}.scale")
    if node.op_type != "Gather":
        return [cast(levels.name, f"{name}.float"), helper.make_node("Mul", [f"{name}.float", scales.name], [name])], [levels, scales]
    row, floats, factor = (f"{node.output[0]}.{part}" for part in ("int8", "float", "scale"))
    nodes = [
        helper.make_node("Gather", [levels.name, node.input[1]], [row]),
        cast(row, floats),
        helper.make_node("Gather", [scales.name, node.input[1]], [factor]),
        helper.make_node("Mul", [floats, factor], list(node.output)),
    ]
    return nodes, [levels, scales]


def four_bits(name, weight, node):
    if weight.ndim != 2 or node.op_type not in ("Gather", "MatMul"):
        return None
    # A row for each input, as MatMul has them; what is looked up in a table are the inputs of one output.
    matrix = np.ascontiguousarray(weight.T if node.op_type == "Gather" else weight)
    inputs, outputs = matrix.shape
    count = -(-inputs // BLOCK)
    packed, scales = np.zeros((outputs, count, BLOCK // 2), np.uint8), np.zeros(outputs * count, np.float32)
    zeros = np.zeros(outputs * ((count + 1) // 2), np.uint8)
    quantize_matmul_4bits(packed, matrix, scales, zeros, BLOCK, outputs, inputs, False)
    half = numpy_helper.from_array(scales.astype(np.float16).reshape(outputs, count), f"{name}.scale")
    unpacked = cast(half.name, f"{name}.float_scale")
    if node.op_type == "MatMul":
        initializers = [numpy_helper.from_array(packed, f"{name}.4bit"), half, numpy_helper.from_array(zeros, f"{name}.zero")]
        names = [node.input[0], initializers[0].name, unpacked.output[0], initializers[2].name]
        attributes = {"K": inputs, "N": outputs, "bits": 4, "block_size": BLOCK}
        return [unpacked, helper.make_node("MatMulNBits", names, list(node.output), domain=MICROSOFT, **attributes)], initializers
    if inputs % (2 * BLOCK) != 0:
        raise SystemExit(f"{name}: rows of {inputs} are not whole pairs of blocks")
    initializers = [nibbles(f"{name}.4bit", [outputs, inputs], packed), half, nibbles(f"{name}.zero", [outputs, count], zeros)]
    names = [initializers[0].name, node.input[1], unpacked.output[0], initializers[2].name]
    attributes = {"gather_axis": 0, "quantize_axis": 1, "block_size": BLOCK}
    return [unpacked, helper.make_node("GatherBlockQuantized", names, list(node.output), domain=MICROSOFT, **attributes)], initializers


def outputs_axis(node, name, weight):
    """The axis that has an entry for each output: of a product's second factor the last, of a table, a convolution or Gemm the first."""
    transposed = node.op_type == "MatMul" and list(node.input).index(name) == 1
    return weight.ndim - 1 if transposed else 0


def cast(name, output):
    return helper.make_node("Cast", [name], [output], to=TensorProto.FLOAT)


def nibbles(name, shape, packed):
    return TensorProto(name=name, data_type=TensorProto.UINT4, dims=shape, raw_data=packed.tobytes())


def with_initializers(model):
    """Weights are looked for among initializers, not in the Constant nodes that Paddle's exporter writes."""
    graph = model.graph
    constants = [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in constants:
        node.attribute[0].t.name = node.output[0]
        graph.initializer.append(node.attribute[0].t)
        graph.node.remove(node)
    return model


ENCODINGS = {"fp16": fp16, "int8": int8, "4bit": four_bits}

if __name__ == "__main__":
    source, out, encoding = sys.argv[1:]
    model = rewritten(with_initializers(onnx.load(source)), ENCODINGS[encoding])
    if encoding == "4bit":
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    onnx.save(model, out)
