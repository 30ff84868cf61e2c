"""The calibration inputs of an ONNX model as .npy files for `mcwc calibrate --samples`.

    python samples.py --cache FOLDER MODEL DIR
"""
import argparse
from pathlib import Path

import numpy as np

from inputs import CALIBRATION
from models import MODELS

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("model", choices=MODELS)
    arguments.add_argument("folder", type=Path)
    arguments = arguments.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    samples = [sample for batch in MODELS[arguments.model](arguments.cache).batches(CALIBRATION) for sample in batch]
    for index, sample in enumerate(samples):
        np.save(arguments.folder / f"{index:04}.npy", sample[None].numpy())
