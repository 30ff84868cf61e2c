"""Model -> statistics for `mcwc encode --calibration`, measured on calibration inputs, or on random ones.

    python calibrate.py --cache FOLDER [--random] MODEL STATS.safetensors
"""
import sys
from pathlib import Path

from inputs import CALIBRATION
from models import named

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))
from mcwc_statistics import statistics

if __name__ == "__main__":
    model, arguments = named(__doc__, {"--random": {"action": "store_true"}, "output": {}})
    batches = model.random_batches() if arguments.random else model.batches(CALIBRATION)
    samples = 0 if arguments.random else None
    statistics(model.module(), batches, arguments.output, distortion=model.distortion_kind, fisher=True, samples=samples)
