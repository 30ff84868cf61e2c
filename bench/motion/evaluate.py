"""A model with the layout of all-MiniLM-L6-v2, and files of it with changed weights -> how far their outputs are from its own, as JSON.

    python evaluate.py --cache FOLDER ORIGINAL FILE...
"""
import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "rate"))
from models import MiniLM

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("original")
    arguments.add_argument("file", nargs="+")
    arguments = arguments.parse_args()
    torch.set_num_threads(2)
    model = MiniLM(arguments.cache)
    before = model.outputs(arguments.original)
    for file in arguments.file:
        print(json.dumps(model.distortion(before, model.outputs(file))), flush=True)
