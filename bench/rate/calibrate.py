"""Model -> statistics for `mcwc encode --calibration`, measured on calibration inputs, or on random ones.

    python calibrate.py --cache FOLDER [--random] MODEL -o STATS.safetensors
"""
import argparse
import sys
from pathlib import Path

import torch

from inputs import CALIBRATION
from models import MODELS

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from mcwc_statistics import statistics

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("--random", action="store_true")
    arguments.add_argument("model", choices=MODELS)
    arguments.add_argument("-o", "--output", required=True)
    arguments = arguments.parse_args()
    torch.set_num_threads(2)
    model = MODELS[arguments.model](arguments.cache)
    batches = model.random_batches() if arguments.random else model.batches(CALIBRATION)
    samples = 0 if arguments.random else None
    statistics(model.module(), batches, arguments.output, distortion=model.distortion_kind, fisher=True, samples=samples)
