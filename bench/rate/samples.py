"""The calibration inputs of an ONNX model as .npy files for `mcwc calibrate --samples`.

    python samples.py --cache FOLDER MODEL DIR
"""
from pathlib import Path

import numpy as np

from inputs import CALIBRATION
from models import named

if __name__ == "__main__":
    model, arguments = named(__doc__, {"folder": {"type": Path}})
    arguments.folder.mkdir(parents=True, exist_ok=True)
    samples = [sample for batch in model.batches(CALIBRATION) for sample in batch]
    for index, sample in enumerate(samples):
        np.save(arguments.folder / f"{index:04}.npy", sample[None].numpy())
