"""ONNX files of a model -> how far their outputs are from those of the first, as JSON, one line for each.

    python evaluate.py --cache FOLDER MODEL ORIGINAL.onnx FILE.onnx...
"""
import json
import sys
from pathlib import Path

import onnxruntime
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "rate"))
from inputs import EVALUATION
from models import named, once


def outputs(model, path):
    if model.extension == "onnx":
        return model.outputs(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [given] = session.get_inputs()
    return [torch.from_numpy(session.run(None, {given.name: batch.numpy()})[0]) for batch in model.batches(EVALUATION)]


if __name__ == "__main__":
    model, arguments = named(__doc__, {"original": {"type": Path}, "file": {"nargs": "+"}})
    before = once(arguments.original.with_suffix(".outputs.pt"), lambda: outputs(model, arguments.original))
    for file in arguments.file:
        print(json.dumps(model.distortion(before, outputs(model, file))), flush=True)
