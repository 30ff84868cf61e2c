"""File of a model with changed weights -> how far its outputs are from the original's, as JSON.

    python evaluate.py --cache FOLDER MODEL FILE...
"""
import json

from models import named

if __name__ == "__main__":
    model, arguments = named(__doc__, {"file": {"nargs": "+"}})
    before = model.reference()
    for file in arguments.file:
        print(json.dumps(model.distortion(before, model.outputs(file))), flush=True)
