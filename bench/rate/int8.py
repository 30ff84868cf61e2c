"""A float ONNX model -> the same in int8, by onnxruntime's quantizer.

    python int8.py MODEL OUT dynamic|static

dynamic: int8 weights, a scale for each output channel. static: operators on int8 (QOperator), their activations calibrated with noise.
"""
import sys
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

INPUT_SHAPE = (1, 3, 320, 320)


def with_initializers(model):
    """The quantizer looks for weights among initializers, not in the Constant nodes that Paddle's exporter writes."""
    graph = model.graph
    constants = [node for node in graph.node if node.op_type == "Constant" and node.attribute[0].name == "value"]
    for node in constants:
        tensor = node.attribute[0].t
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)
    return model


class Noise(CalibrationDataReader):
    def __init__(self, name):
        self.inputs = iter([{name: np.random.default_rng(0).normal(size=INPUT_SHAPE).astype(np.float32)}])

    def get_next(self):
        return next(self.inputs, None)


if __name__ == "__main__":
    source, out, how = sys.argv[1:]
    model = with_initializers(onnx.load(source))
    floats = Path(out).with_suffix(".float.onnx")
    onnx.save(model, floats)
    if how == "dynamic":
        quantize_dynamic(floats, out, weight_type=QuantType.QInt8, per_channel=True)
    else:
        quantize_static(floats, out, Noise(model.graph.input[0].name), quant_format=QuantFormat.QOperator, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    floats.unlink()
