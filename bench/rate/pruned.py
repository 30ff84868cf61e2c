"""A model -> pruned variants of it, and what others make of them.

    python pruned.py MODEL.safetensors FOLDER

In every float matrix and kernel of 1024 weights or more, the smallest of each tensor's weights are zero (50 to 95 %), or two of four
neighbours. Prints a line of JSON for each: its file, weights, those that are not zero, the entropy of their places in bits, and its bytes
with brotli -11 and ZipNN. Brotli takes a minute for ten megabytes: it gets one of sixteen, and is taken to do as well on the others.
"""
import json
import sys
from pathlib import Path

import brotli
import numpy as np
from safetensors.numpy import load_file, save_file
from zipnn import ZipNN

PARTS = {"50": 0.5, "80": 0.8, "90": 0.9, "95": 0.95}
PAIRS = "2of4"
BLOCK, STRIDE = 1 << 20, 16


def kept(magnitudes, variant):
    """Which weights stay, and the entropy of their places in bits."""
    if variant == PAIRS:
        groups = magnitudes.reshape(-1, 4)
        keep = np.zeros(groups.shape, bool)
        np.put_along_axis(keep, np.argsort(groups, axis=1)[:, 2:], True, axis=1)
        return keep.ravel(), len(groups) * np.log2(6)
    zeros = int(len(magnitudes) * PARTS[variant])
    keep = magnitudes >= np.partition(magnitudes, zeros)[zeros]
    part = keep.mean()
    return keep, -len(keep) * (part * np.log2(part) + (1 - part) * np.log2(1 - part))


def pruned(tensors, variant):
    variant_tensors, weights, nonzero, places = {}, 0, 0, 0.0
    for name, tensor in tensors.items():
        axes = sum(extent > 1 for extent in tensor.shape)
        if tensor.dtype == np.float32 and axes > 1 and tensor.size >= 1024 and tensor.size % 4 == 0:
            keep, bits = kept(np.abs(tensor).ravel(), variant)
            tensor = np.where(keep.reshape(tensor.shape), tensor, np.float32(0))
            weights, nonzero, places = weights + keep.size, nonzero + int(keep.sum()), places + bits
        variant_tensors[name] = tensor
    return variant_tensors, {"weights": weights, "nonzero": nonzero, "places": places}


def brotli_bytes(data):
    sample = b"".join(data[start:start + BLOCK] for start in range(0, len(data), BLOCK * STRIDE))
    return round(len(brotli.compress(sample, quality=11, lgwin=24)) * len(data) / len(sample))


def main():
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    tensors = load_file(model)
    for variant in [*PARTS, PAIRS]:
        path = folder / f"{model.stem}-{variant}.safetensors"
        variant_tensors, counts = pruned(tensors, variant)
        save_file(variant_tensors, path)
        data = path.read_bytes()
        # ZipNN writes into what it is given.
        zipnn = ZipNN(bytearray_dtype="float32", input_format="byte").compress(bytearray(data))
        sizes = {"bytes": len(data), "brotli": brotli_bytes(data), "zipnn": len(zipnn)}
        print(json.dumps({"variant": variant, "file": path.name, **counts, **sizes}), flush=True)


main()
