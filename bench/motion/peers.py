"""A fine-tune and its base -> what others make of the difference.

    python peers.py --cache FOLDER METHOD BASE TUNED

`xor` is lossless, as BitX of ZipLLM (arXiv 2505.06252): the two files' bits by exclusive or, then zstd -19; `xor-planes` puts byte *p*
of all elements together first. `signs` is after BitDelta (arXiv 2402.10193): of every matrix the signs of the difference and one scale, its mean
magnitude, without the distillation of scales; all other tensors' differences as float16; then brotli -11. Prints JSON: bytes, and for
`signs` the distortion against the fine-tune.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import brotli
import numpy as np
import torch
import zstandard
from safetensors.torch import load_file, save

sys.path.append(str(Path(__file__).resolve().parents[1] / "rate"))
from models import MiniLM, is_weight


def xor(base, tuned, planes):
    """The bytes, proven to give the fine-tune back."""
    width = base[next(iter(base))].element_size()
    before, after = (np.concatenate([tensors[name].contiguous().flatten().view(torch.uint8).numpy() for name in sorted(tensors)]) for tensors in (base, tuned))
    difference = before ^ after
    if planes:
        difference = difference.reshape(-1, width).T.copy()
    small = zstandard.ZstdCompressor(level=19).compress(difference.tobytes())
    back = np.frombuffer(zstandard.ZstdDecompressor().decompress(small), np.uint8)
    if planes:
        back = back.reshape(width, -1).T.reshape(-1)
    assert np.array_equal(back ^ before, after)
    return {"bytes": len(small)}


def signs(base, tuned, model, original):
    stored, restored = {}, {}
    for name, tensor in tuned.items():
        difference = tensor - base[name]
        if is_weight(tensor):
            positive, scale = difference > 0, difference.abs().mean()
            stored |= {name: torch.from_numpy(np.packbits(positive.numpy())), f"{name}.scale": scale}
            difference = torch.where(positive, scale, -scale)
        else:
            stored[name] = difference = difference.half()
        restored[name] = base[name] + difference.float()
    small = brotli.compress(save(stored), quality=11, lgwin=24)
    with tempfile.TemporaryDirectory(dir=model.folder) as folder:
        path = Path(folder) / "signs.safetensors"
        model.write(restored, path)
        weights = sum(tensor.numel() for tensor in tuned.values() if is_weight(tensor))
        return {"bytes": len(small), "weights": weights, "distortion": model.distortion(model.outputs(original), model.outputs(path))}


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", required=True)
    arguments.add_argument("method", choices=["xor", "xor-planes", "signs"])
    arguments.add_argument("base")
    arguments.add_argument("tuned")
    arguments = arguments.parse_args()
    torch.set_num_threads(2)
    tuned = load_file(arguments.tuned)
    # The base may have tensors that are no weights.
    base = {name: tensor for name, tensor in load_file(arguments.base).items() if name in tuned}
    if arguments.method == "signs":
        print(json.dumps(signs(base, tuned, MiniLM(arguments.cache), arguments.tuned)))
    else:
        print(json.dumps(xor(base, tuned, arguments.method == "xor-planes")))
