#!/usr/bin/env python3
"""Composes vectors that no encoder writes, and what they hold.

    python3 tests/reference/vectors.py [--check]

Writes those that are not there yet, and prints their lines for digests.txt. `--check` writes none, and fails if one that is there
is another.
"""

import argparse
import hashlib
import random
import struct
import sys
from array import array
from functools import partial
from pathlib import Path

from cbor import Float
from compose import Composer, Table, adaptive, bits, constant, copies, guided, levels_chunk, permutation, rans, raw
from dtypes import DTYPES, cast, wrap
from reading import zigzag
from stages import TRELLIS_NEXT, trellis_level
from values import scale_of

VECTORS = Path(__file__).parent.parent / "vectors/valid"
PLANES, LEVELS = range(2)
BY_NAME = {dtype.name: dtype for dtype in DTYPES}
# Of bytes, and of symbols around 0.
BYTES = Table(0, frequencies=[16] * 256)
SYMBOLS = Table(-2, steps=[30, 34, 38, 34, 30])
SPARSE = Table(-2, frequencies=[1, 0, 2047, 2047, 1])


def planes(data, dtype):
    """The bytes of every plane of a chunk that is not predicted."""
    size = dtype.element_bytes
    elements = [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]
    if dtype.rotated:
        elements = [rotated(u, 8 * size) for u in elements]
    return [bytes(u >> 8 * plane & 255 for u in elements) for plane in range(size)]


def rotated(u, width):
    return (u << 1 & (1 << width) - 1) | u >> (width - 1)


def adaptive_header(header):
    return adaptive(header, limit=31, distance=2, context_bits=3)


def every_dtype():
    """Planes of every dtype, of odd numbers of elements in chunks of 3; and levels of every dtype that has some."""
    noise = random.Random(1)
    composer, content = Composer(), b""
    for dtype in DTYPES:
        data = noise.randbytes(dtype.tensor_bytes(7))
        size = 3 * dtype.element_bytes
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        payloads = [b"".join(map(raw, planes(chunk, dtype))) for chunk in chunks]
        frame = composer.add_frame(PLANES, 3, payloads)
        composer.add_tensor(f"planes.{dtype.name}", dtype.name, [7], len(content), [frame])
        content += data
    tables = composer.add_tables(SYMBOLS)
    # Rows of 4 in parts of 3 and 1. The last part has an escape at the edge of what levels can be.
    symbols = [[noise.randint(-2, 2) for _ in range(4)] for _ in range(2)]
    for dtype in filter(lambda dtype: dtype.levels, DTYPES):
        largest = ((1 << 24) - 1) * (-1 if dtype.name == "u16" else 1)
        payloads = []
        for row in symbols:
            payloads.append(levels_chunk([row[:3]], lambda *_: SYMBOLS, lanes_log2=1))
            payloads.append(levels_chunk([row[3:]], lambda *_: SYMBOLS, escapes=[(0, largest)]))
        levels = [level for row in symbols for level in [*row[:3], largest]]
        if dtype.levels == "integer":
            fields, data = {"zero_point": -5}, wrap([level - 5 for level in levels], dtype)
        else:
            fields, data = {"scale": Float(0.75)}, cast(array("f", [level * 0.75 for level in levels]), dtype)
        frame = composer.add_frame(LEVELS, 3, payloads, matrix=[2, 4, 1], tables=tables, **fields)
        composer.add_tensor(f"levels.{dtype.name}", dtype.name, [2, 2, 2], len(content), [frame])
        content += data
    composer.add_file("modèle/タイプ.bin", len(content))
    return composer.finish(metadata={"z": "not first", "a": "", "ü": "any order"}), {"modèle/タイプ.bin": content}


def every_mode():
    """Planes of every mode, with their parameters at both ends; among them lanes of which most have no symbols."""
    text = b"the quick brown fox jumps over the lazy dog; " * 8
    same = bytes([7]) * len(text)
    inner = (constant, raw, partial(adaptive, limit=1, distance=1, context_bits=0), raw, raw, raw)
    nothing = (raw,) + (partial(rans, table=BYTES),) * 5
    coded = [
        (text, raw(text)),
        (same, constant(same)),
        (text, rans(text, BYTES, lanes_log2=3)),
        (text[:100].ljust(len(text), b"\0"), rans(text[:100].ljust(len(text), b"\0"), BYTES, lanes_log2=8)),
        (text, copies([(text[:45], 45, len(text) - 50)], text[-5:])),
        (same, copies([(same[:1], 1, 140), (b"", 141, len(text) - 150)], same[:9], inner)),
        (text, copies([], text, nothing)),
        (text, adaptive(text, limit=1, distance=255, context_bits=8)),
        (text, adaptive(text, limit=255, distance=1, context_bits=0)),
    ]
    composer, content = Composer(), b""
    for index, (data, payload) in enumerate(coded):
        frame = composer.add_frame(PLANES, len(text), [payload])
        composer.add_tensor(f"{index}", "u8", [len(text)], len(content), [frame])
        content += data
    composer.add_file("modes.bin", len(content))
    return composer.finish(code=lambda header: rans(header, BYTES, lanes_log2=2)), {"modes.bin": content}


def residuals(data, reference, dtype):
    """Planes of a predicted chunk, and the reference's bytes as guides see them."""
    size = dtype.element_bytes
    width = 8 * size
    reference = reference[: len(data)].ljust(len(data), b"\0")
    numbers, guides = [], b""
    for at in range(0, len(data), size):
        u, v = (int.from_bytes(part[at : at + size], "little") for part in (data, reference))
        if dtype.rotated:
            u, v = rotated(u, width), rotated(v, width)
        guides += v.to_bytes(size, "little")
        if dtype.rotated:
            u, v = ((n >> 1) ^ -(n & 1) for n in (u, v))
        difference = (u - v + (1 << width - 1)) % (1 << width) - (1 << width - 1)
        numbers.append(zigzag(difference, width))
    return [bytes(n >> 8 * plane & 255 for n in numbers) for plane in range(size)], guides


def guided_planes():
    """Planes of every dtype, predicted from a frame that is longer, shorter, or without such a chunk, and guided by it."""
    noise = random.Random(2)
    composer, content = Composer(), b""
    for index, dtype in enumerate(DTYPES):
        size, chunk_len = dtype.element_bytes, 8
        frames = []
        lens = [(20, 11), (5, 19), (8, 13)][index % 3]
        datas = [noise.randbytes(dtype.tensor_bytes(elements)) for elements in lens]
        for data in datas:
            payloads = []
            for start in range(0, len(data), chunk_len * size):
                chunk = data[start : start + chunk_len * size]
                if not frames:
                    payloads.append(b"".join(map(raw, planes(chunk, dtype))))
                    continue
                parts, guides = residuals(chunk, datas[0][start : start + chunk_len * size], dtype)
                distances = [size - 1 - plane if plane % 2 else 255 * (plane % 4 == 2) for plane in range(size)]
                guided_by = [
                    bytes((guides + bytes(255))[place + distance] for place in range(plane, len(guides), size))
                    for plane, distance in enumerate(distances)
                ]
                coded = zip(parts, distances, guided_by)
                payloads.append(b"".join(guided(part, 12, far, 1 + far % 8, by) for part, far, by in coded))
            reference = {"reference": [0, frames[0]]} if frames else {}
            frames.append(composer.add_frame(PLANES, chunk_len, payloads, **reference))
        for generation, (frame, elements, data) in enumerate(zip(frames, lens, datas)):
            composer.add_tensor(f"{dtype.name}.{generation}", dtype.name, [elements], len(content), [frame])
            content += data
    composer.add_file("guided.bin", len(content))
    return composer.finish(), {"guided.bin": content}


def guided_records():
    """Records of three fields, predicted and guided."""
    noise = random.Random(3)
    record, records = [2, 1, 5], 9
    first, second = noise.randbytes(8 * records), noise.randbytes(8 * records)
    composer = Composer()

    def fields(data):
        starts = [0, 2, 3]
        return [b"".join(data[at + s : at + s + n] for at in range(0, len(data), 8)) for s, n in zip(starts, record)]

    key = composer.add_frame(PLANES, 40, [b"".join(map(raw, fields(part))) for part in (first[:40], first[40:])], record=record)
    payloads = []
    for part, reference in ((second[:40], first[:40]), (second[40:], first[40:])):
        (residual,), guides = residuals(part, reference, BY_NAME["u8"])
        shifted = (guides + bytes(3))[3:]
        payloads.append(b"".join(guided(p, 31, 3, 4, g) for p, g in zip(fields(residual), fields(shifted))))
    predicted = composer.add_frame(PLANES, 40, payloads, record=record, reference=[0, key])
    composer.add_tensor("first", "u4", [2 * len(first)], 0, [key])
    composer.add_tensor("second", "u4", [2 * len(second) - 1], len(first), [predicted])
    composer.add_tensor("third", "u4", [2 * len(second)], len(first) + len(second), [predicted])
    composer.add_file("records.bin", len(first) + 2 * len(second))
    return composer.finish(), {"records.bin": first + 2 * second}


def extents():
    """Files and tensors that are empty, shared, inside of one another; a raw stream that is cut, and one of no bytes."""
    piece = bytes(1 << 20)
    shared = b"\1\2\3\4\5\6"
    composer = Composer()
    frame = composer.add_frame(PLANES, 4, [raw(shared[:4]), raw(shared[4:])])
    composer.add_tensor("inside", "u16", [1], 1)
    composer.add_tensor("first", "u8", [6], 0, [frame])
    composer.add_tensor("second", "u8", [2, 3], 7, [frame])
    composer.add_tensor("scalar", "f32", [], 13)
    composer.add_tensor("empty", "f64", [3, 0], 5)
    composer.add_tensor("all", "u8", [13 + len(piece)], 0)
    # A gap of one byte, and two pieces after the last tensor, of which the second has 4 bytes: "scalar" is in the first.
    stream = b"\x2a" + piece + b"tail"
    composer.add_file("a/b", 12 + len(stream), copies([(b"\x2a\0", 1, (1 << 20) - 2)], b""), raw(stream[1 << 20 :]))
    composer.add_file("empty", 0)
    composer.add_tensor("whole", "u8", [6], 0, [frame])
    composer.add_file("whole", 6)
    files = {"a/b": shared + stream[:1] + shared + stream[1:], "empty": b"", "whole": shared}
    return composer.finish(code=adaptive_header), files


def shared_raw():
    """Files of several lengths whose raw streams are the same chunk, of a byte repeated; and tensors in them."""
    composer = Composer()
    lens = [5, 7, 3, 7]
    for index, length in enumerate(lens):
        composer.add_tensor(f"{index}", "u8", [length - 1], 1)
        composer.add_file(f"{index}", length, *([constant(b"\x2a")] if index == 0 else []))
        composer.files[-1][2] = 0
    return composer.finish(), {f"{index}": b"\x2a" * length for index, length in enumerate(lens)}


def chain_of_16():
    """A tensor of 16 frames, and another frame: as many references in a row as there may be, with gains of both signs."""
    noise = random.Random(4)
    composer = Composer()
    tables = composer.add_tables(SPARSE)
    previous, frames = None, []
    for index in range(17):
        rows = 3
        symbols = [[noise.randint(-1, 1) if noise.random() < 0.9 else noise.choice([-2, 2]) for _ in range(2)] for _ in range(rows)]
        symbols = [[0 if symbol == -1 else symbol for symbol in row] for row in symbols]
        payload = levels_chunk(symbols, lambda *_: SPARSE)
        gain = [256, -300, 32767, -7][index % 4] if index < 6 else 200
        fields = {"reference": [0, index - 1], "gain": gain} if previous else {}
        levels = symbols
        if previous:
            levels = [[s + ((gain * p + 128) >> 8) for s, p in zip(*both)] for both in zip(symbols, previous)]
        previous = levels
        frames.append(composer.add_frame(LEVELS, 6, [payload], matrix=[rows, 2, 1], tables=tables, scale=Float(2.0**-9), **fields))
    content = cast([level * 2.0**-9 for row in previous for level in row], BY_NAME["f32"])
    composer.add_tensor("long", "f32", [6], 0, frames[:1] + frames[2:])
    composer.add_tensor("other", "f32", [6], 24, [frames[1], frames[16]])
    composer.add_file("chain.bin", 48)
    return composer.finish(), {"chain.bin": 2 * content}


def small_levels():
    """Little of much, for tests that flip every bit: trellis, side arrays, permutations, a prediction with row gains, low bits."""
    composer = Composer()
    tables = composer.add_tables(SYMBOLS, SPARSE)
    rows, columns = 3, 4
    row_class, row_exponent, places = [0, 1, 0], [-3, 0, 16], [2, 0, 1]
    side = bytes([0]) + bytes(row_class) + bytes([0]) + bytes(e & 255 for e in row_exponent) + permutation(places)
    symbols = [[1, 0, 2, -1], [0, 1, -2, 1], [0, 0, 2, 1]]
    one_set = [SYMBOLS, SPARSE]
    key = levels_chunk(symbols, lambda row, *_: one_set[row_class[row]], lanes_log2=1)
    options = {"matrix": [rows, columns, 1], "tables": tables, "scale": Float(0.5)}
    first = composer.add_frame(LEVELS, 12, [side, key], side=0b1001001, **options)
    gains = [256, -128, 300]
    gain_bytes = [bytes(gain >> shift & 255 for gain in gains) for shift in (0, 8)]
    own = [[0, 1, 0, 1], [1, 0, 0, 1], [2, 1, 0, 0]]
    payload = levels_chunk(own, lambda row, column, quantizer: one_set[quantizer], escapes=[(5, -300)])
    second = composer.add_frame(
        LEVELS, 12, [b"".join(map(raw, gain_bytes)), payload], side=1 << 8, reference=[0, first], quantizer=1, **options
    )
    weights = [[0.0] * columns for _ in range(rows)]
    for row, place in enumerate(places):
        weights[place] = [symbol * scale_of(0.5, row_exponent[row]) for symbol in symbols[row]]
    predicted, states = [], [0] * columns
    for row in range(rows):
        for column in range(columns):
            symbol = own[row][column]
            level = -300 if (row, column) == (1, 1) else trellis_level(symbol, states[column])
            states[column] = TRELLIS_NEXT[states[column]][symbol & 1]
            predicted.append(0.5 * (level + ((gains[row] * symbols[row][column] + 128) >> 8)))
    low = composer.add_frame(
        LEVELS, 4, [levels_chunk([[-2, 1, 0, 2]], lambda *_: SYMBOLS, low=bits([(5, 3), (0, 3), (7, 3), (1, 3)]))],
        matrix=[1, 4, 1], tables=[0, 1], zero_point=100, low_bits=3,
    )
    content = cast([weight for row in weights for weight in row], BY_NAME["f32"]) + cast(predicted, BY_NAME["bf16"])
    content += wrap([100 - 11, 100 + 8, 100 + 7, 100 + 17], BY_NAME["u8"])
    composer.add_tensor("a", "f32", [3, 4], 0, [first])
    composer.add_tensor("b", "bf16", [3, 4], 48, [second])
    composer.add_tensor("c", "u8", [4], 72, [low])
    composer.add_file("m", len(content))
    return composer.finish(), {"m": content}


def small_planes():
    """The same of exact bytes: most modes, a record, and a guided prediction."""
    composer = Composer()
    first = struct.pack("<3f", 1.5, -0.25, 1e-3)
    second = struct.pack("<4f", 1.5000001, 0.25, 0.0, 3.0)
    two = Table(0, frequencies=[2048, 2047, 1])
    coded = [raw(plane) for plane in planes(first, BY_NAME["f32"])]
    key = composer.add_frame(PLANES, 4, [b"".join(coded)])
    parts, guides = residuals(second, first, BY_NAME["f32"])
    top = [bytes(guides[at + 3] for at in range(0, 16, 4))] * 4
    payload = b"".join(guided(part, 12, 3 - plane, 4, by) for plane, (part, by) in enumerate(zip(parts, top)))
    predicted = composer.add_frame(PLANES, 4, [payload], reference=[0, key])
    text = b"abcabcabcabcd"
    records = b"\1\0\1\2\0\1"
    in_fields = rans(records[0::3], two, lanes_log2=1) + rans(records[1:3] + records[4:6], two)
    third = composer.add_frame(PLANES, 6, [in_fields], record=[1, 2])
    content = first + second + records + text
    composer.add_tensor("a", "f32", [3], 0, [key])
    composer.add_tensor("b", "f32", [4], 12, [predicted])
    composer.add_tensor("c", "i8", [6], 28, [third])
    composer.add_file("m", len(content), copies([(b"abc", 3, 9)], b"d", (raw, constant, constant, raw, constant, constant)))
    return composer.finish(), {"m": content}


def small_coded():
    """A coded header, and a file of one constant chunk beside one of levels."""
    composer = Composer()
    tables = composer.add_tables(SYMBOLS)
    symbols = [[0, 1], [-1, 2]]
    frame = composer.add_frame(LEVELS, 4, [levels_chunk(symbols, lambda *_: SYMBOLS)], matrix=[2, 2, 1], tables=tables, scale=Float(1.0))
    composer.add_tensor("w", "f16", [2, 2], 0, [frame])
    content = cast([0.0, 1.0, -1.0, 2.0], BY_NAME["f16"])
    composer.add_file("m", len(content) + 5, constant(b"\x20" * 5))
    return composer.finish(code=adaptive_header), {"m": content + b"\x20" * 5}


ALL = [every_dtype, every_mode, guided_planes, guided_records, extents, shared_raw, chain_of_16, small_levels, small_planes, small_coded]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    digests = (VECTORS / "digests.txt").read_text().splitlines()
    for vector in ALL:
        path = VECTORS / f"{vector.__name__.replace('_', '-')}.mcwc"
        archive, files = vector()
        lines = [f"{path.name} {name} {hashlib.sha256(content).hexdigest()[:32]}" for name, content in files.items()]
        if not arguments.check:
            if not path.exists():
                path.write_bytes(archive)
            print(*lines, sep="\n")
        elif path.read_bytes() != archive or not set(lines) <= set(digests):
            sys.exit(f"{path.name} is not what is composed")


if __name__ == "__main__":
    main()
