"""File of a model with changed weights -> how far its outputs are from the original's, as JSON.

    python evaluate.py --cache FOLDER MODEL FILE...
"""
import argparse
import json

import torch

from models import MODELS

if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("model", choices=MODELS)
    arguments.add_argument("file", nargs="+")
    arguments = arguments.parse_args()
    torch.set_num_threads(2)
    model = MODELS[arguments.model](arguments.cache)
    before = model.reference()
    for file in arguments.file:
        print(json.dumps(model.distortion(before, model.outputs(file))), flush=True)
