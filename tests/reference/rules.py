#!/usr/bin/env python3
"""Archives that break one rule of docs/FORMAT.md each: `tests/vectors/rules.txt`, lines of a name, an error's code, and hex digits.

    python3 tests/reference/rules.py [--write]        without it, checks that the list is what is composed, and each refused so
"""

import argparse
import hashlib
import struct
import sys
from pathlib import Path

from cbor import Float
from compose import Table, adaptive, ans, assemble, bits, cbor, constant, copies, guided, levels_chunk, raw, varint
from outcomes import outcome

LIST = Path(__file__).parent.parent / "vectors/rules.txt"
SYMBOLS = Table(-2, frequencies=[819, 819, 820, 819, 819])
ABSENT = object()
F32, U8, I32, U4 = 0, 5, 8, 16

PLANES_HEADER = {
    0: [{0: "f", 1: 4, 2: 1}],
    1: [{0: "t", 1: U8, 2: [4], 3: 0, 4: 0, 5: [0]}],
    2: [{0: 0, 1: 0, 2: 4}],
    3: b"",
}
PLANES_CHUNKS = [raw(b"abcd")]
LEVELS_HEADER = {
    0: [{0: "f", 1: 16, 2: 1}],
    1: [{0: "t", 1: F32, 2: [2, 2], 3: 0, 4: 0, 5: [0]}],
    2: [{0: 1, 1: 0, 2: 4, 3: [2, 2, 1], 4: [0, 1], 5: Float(1.0)}],
    3: SYMBOLS.stored,
}


def coded_levels(escapes=(), low=b""):
    return levels_chunk([[0, 1], [-1, 2]], lambda *_: SYMBOLS, low=low, escapes=escapes)


LEVELS_CHUNKS = [coded_levels()]


def edited(item, path, value):
    """A copy of a header in which one place has another value, or none."""
    key, *rest = path
    entries = dict(item) if isinstance(item, dict) else list(item)
    if rest:
        entries[key] = edited(entries[key], rest, value)
    elif value is ABSENT:
        del entries[key]
    elif isinstance(entries, list) and key == len(entries):
        entries.append(value)
    else:
        entries[key] = value
    return dict(sorted(entries.items())) if isinstance(entries, dict) else entries


def with_edits(header, chunks, edits):
    for path, value in dict(edits).items():
        header = edited(header, path, value)
    return assemble(header, chunks)


def planes(edits=(), chunks=PLANES_CHUNKS):
    return with_edits(PLANES_HEADER, chunks, edits)


def levels(edits=(), chunks=LEVELS_CHUNKS):
    return with_edits(LEVELS_HEADER, chunks, edits)


def payload(data, length=4):
    """One tensor of bytes, whose only chunk is this."""
    size = {(0, 0, 1): length, (1, 0, 2): [length], (2, 0, 2): length}
    return planes(size, [data])


def with_header(stored, chunks=()):
    """Whose header is these bytes."""
    preamble = bytes.fromhex("8D4D4357430D0A1A") + struct.pack("<HHI", 1, 0, len(stored))
    return preamble + hashlib.sha256(preamble + stored).digest()[:16] + stored + b"".join(chunks)


def replaced(old, new, archive=None):
    """Whose header has these bytes instead of those."""
    archive = archive or planes()
    stored = archive[32 : 32 + int.from_bytes(archive[12:16], "little")]
    assert stored.count(old) == 1
    return with_header(stored.replace(old, new), PLANES_CHUNKS)


def changed(place, value):
    archive = bytearray(planes())
    archive[place] = value
    return bytes(archive)


def preambles():
    valid = planes()
    yield "magic", "invalid", changed(0, 0x8C)
    yield "version-0", "unsupported", changed(8, 0)
    yield "version-2", "unsupported", changed(8, 2)
    yield "flags", "unsupported", changed(10, 2)
    yield "header-hash", "checksum", changed(40, 0xFF)
    yield "chunk-hash", "checksum", changed(-1, 0xFF)
    yield "no-bytes", "incomplete", b""
    yield "preamble-ends", "incomplete", valid[:31]
    yield "header-ends", "incomplete", valid[:60]
    yield "archive-ends", "incomplete", valid[:-1]
    yield "archive-goes-on", "invalid", valid + b"\0"


def cbor_items():
    dtype = cbor({1: U8})[1:]
    yield "keys-descend", "invalid", replaced(b"\xa6\x00\x61t", b"\xa6\x01\x05\x00\x61t", replaced(dtype, b""))
    yield "indefinite-map", "invalid", replaced(b"\xa3\x00\x00\x01\x00\x02\x04", b"\xbf\x00\x00\x01\x00\x02\x04\xff")
    yield "indefinite-array", "invalid", replaced(b"\x81\x04", b"\x9f\x04\xff")
    yield "indefinite-text", "invalid", replaced(b"\x61t", b"\x7f\x61t\xff")
    yield "indefinite-bytes", "invalid", replaced(b"\x03\x40", b"\x03\x5f\xff")
    yield "text-is-not-utf-8", "invalid", replaced(b"\x61t", b"\x61\xff")
    yield "tag", "invalid", replaced(dtype, b"\x01\xc0\x05")
    yield "header-goes-on", "invalid", with_header(planes()[32:-5] + b"\0", PLANES_CHUNKS)
    yield "header-ends-inside", "invalid", with_header(planes()[32:-6], PLANES_CHUNKS)
    yield "scale-of-64-bits", "invalid", replaced(b"\xfa" + struct.pack(">f", 1.0), b"\xfb" + struct.pack(">d", 1.0), levels())
    yield "bytes-for-text", "invalid", planes({(1, 0, 0): b"t"})
    yield "negative", "invalid", planes({(1, 0, 4): -1})
    for key in (0, 1, 2, 3):
        yield f"header-without-{key}", "invalid", planes({(key,): ABSENT})
    for name, path in (("header", (9,)), ("file", (0, 0, 9)), ("tensor", (1, 0, 9)), ("frame", (2, 0, 15))):
        yield f"reserved-key-of-{name}", "unsupported", planes({path: 0})
    yield "metadata-of-numbers", "invalid", planes({(6,): {"a": 1}})
    yield "base-of-15-bytes", "invalid", planes({(5,): bytes(15)})


def files():
    names = ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a\\b", "a:b", "a\0", "a\x1f", "a\x7f", "a\x80", "a\x9f", "a" * 1025]
    for index, name in enumerate(names):
        yield f"file-name-{index}", "invalid", planes({(0, 0, 0): name})
    yield "file-names-equal", "invalid", planes({(0, 1): {0: "f", 1: 0, 2: 0}})
    yield "raw-chunk-missing", "invalid", planes({(0, 0, 1): 5})
    yield "raw-chunk-beyond", "invalid", planes({(0, 0, 2): 2})


def tensors():
    other = {0: "u", 1: U8, 2: [4], 3: 0, 4: 2, 5: [0]}
    yield "dtype", "unsupported", planes({(1, 0, 1): 17})
    yield "tensor-of-no-file", "invalid", planes({(1, 0, 3): 1})
    yield "tensor-after-its-file", "invalid", planes({(1, 0, 4): 1})
    yield "tensor-without-frames-after-its-file", "invalid", planes({(1, 1): {0: "u", 1: U8, 2: [5], 3: 0, 4: 0}})
    yield "shape-overflows", "invalid", planes({(1, 1): {0: "u", 1: U8, 2: [1 << 63, 2, 0], 3: 0, 4: 0}})
    yield "no-frames", "invalid", planes({(1, 0, 5): []})
    yield "frames-of-an-empty-tensor", "invalid", planes({(1, 1): {0: "u", 1: U8, 2: [0], 3: 0, 4: 4, 5: [0]}})
    yield "frame-missing", "invalid", planes({(1, 0, 5): [1]})
    yield "frame-2-to-the-32", "invalid", planes({(1, 0, 5): [1 << 32]})
    yield "tensors-overlap", "invalid", planes({(0, 0, 1): 6, (1, 1): other})
    yield "tensors-out-of-order", "invalid", planes({(0, 0, 1): 8, (1, 0, 4): 4, (1, 1): other | {4: 0}})
    yield "frames-17", "limit-exceeded", planes({(1, 0, 5): [0] * 17})
    yield "shared-by-another-dtype", "invalid", planes({(0, 0, 1): 8, (1, 1): other | {1: 4, 4: 4}})
    yield "shared-by-another-size", "invalid", planes({(0, 0, 1): 7, (1, 1): other | {2: [3], 4: 4}})


def frames():
    yield "coding", "unsupported", planes({(2, 0, 0): 2})
    yield "chunk-len-0", "invalid", planes({(2, 0, 2): 0})
    yield "frame-of-no-tensor", "invalid", planes({(2, 1): PLANES_HEADER[2][0]})
    yield "chunk-missing", "invalid", planes({(2, 0, 1): 1})
    yield "chunk-2-to-the-32", "invalid", planes({(2, 0, 1): 1 << 32})
    yield "chunk-table-cut", "invalid", with_header(cbor(PLANES_HEADER | {4: bytes(19)}))
    for key, value in ((3, [1, 4, 1]), (4, [0, 1]), (5, Float(1.0)), (6, 1), (7, 1), (8, 1), (11, 1), (12, 1), (13, 1)):
        yield f"planes-with-key-{key}", "invalid", planes({(2, 0, key): value})
    yield "gain-without-reference", "invalid", planes({(2, 0, 10): 256})
    yield "record-of-no-fields", "invalid", planes({(2, 0, 14): []})
    yield "record-with-an-empty-field", "invalid", planes({(2, 0, 14): [2, 0]})
    yield "record-of-3-in-chunks-of-4", "invalid", planes({(2, 0, 14): [1, 2]})
    yield "record-of-3-in-4-elements", "invalid", planes({(2, 0, 14): [1, 2], (2, 0, 2): 3})
    yield "record-of-wide-elements", "invalid", planes({(1, 0, 1): F32, (1, 0, 2): [1], (2, 0, 14): [4]})


def frames_of_levels():
    yield "levels-without-matrix", "invalid", levels({(2, 0, 3): ABSENT})
    yield "levels-without-tables", "invalid", levels({(2, 0, 4): ABSENT})
    yield "levels-with-record", "invalid", levels({(2, 0, 14): [1]})
    yield "matrix-of-another-size", "invalid", levels({(2, 0, 3): [2, 3, 1], (2, 0, 2): 6})
    yield "matrix-of-nothing", "invalid", levels({(2, 0, 3): [2, 0, 1]})
    yield "matrix-of-two", "invalid", levels({(2, 0, 3): [2, 2]})
    yield "tables-0", "invalid", levels({(2, 0, 4): [0, 0]})
    yield "tables-missing", "invalid", levels({(2, 0, 4): [1, 1]})
    yield "trellis-of-one-table", "invalid", levels({(2, 0, 11): 1})
    two = {(3,): SYMBOLS.stored * 2, (2, 0, 4): [0, 2], (2, 0, 11): 1}
    yield "trellis-with-low-bits", "invalid", levels(two | {(2, 0, 7): 1})
    integers = {(1, 0, 1): U8, (0, 0, 1): 4, (2, 0, 5): ABSENT}
    yield "trellis-of-integers", "invalid", levels(two | integers)
    yield "low-bits-17", "invalid", levels({(2, 0, 7): 17})
    for name, scale in (("small", 2.0**-101), ("large", 2.0**101), ("negative", -1.0), ("0", 0.0), ("nan", float("nan"))):
        yield f"scale-{name}", "invalid", levels({(2, 0, 5): Float(scale)})
    yield "zero-point-with-scale", "invalid", levels({(2, 0, 6): 1})
    yield "zero-point-of-33-bits", "invalid", levels(integers | {(2, 0, 6): 1 << 31})
    yield "floats-without-scale", "invalid", levels({(2, 0, 5): ABSENT})
    yield "integers-with-scale", "invalid", levels({(1, 0, 1): U8, (0, 0, 1): 4})
    yield "levels-of-i32", "invalid", levels({(1, 0, 1): I32, (2, 0, 5): ABSENT})
    for key, name in ((11, "quantizer"), (12, "transform"), (13, "layout")):
        yield name, "unsupported", levels({(2, 0, key): 2})
    yield "side-bit-9", "unsupported", levels({(2, 0, 8): 1 << 9})
    yield "tap-class-of-one-tap", "invalid", levels({(2, 0, 8): 1 << 2})
    yield "row-gain-without-reference", "invalid", levels({(2, 0, 8): 1 << 8})
    yield "chunk-len-of-3-in-rows-of-2", "invalid", levels({(2, 0, 2): 3})
    cut = {(2, 0, 2): 1}
    yield "row-permutation-of-cut-rows", "invalid", levels(cut | {(2, 0, 8): 1 << 6})
    yield "column-permutation-of-cut-rows", "invalid", levels(cut | {(2, 0, 8): 1 << 7})
    yield "column-major-of-cut-rows", "invalid", levels(cut | {(2, 0, 13): 1})
    yield "column-major-with-row-permutation", "invalid", levels({(2, 0, 13): 1, (2, 0, 8): 1 << 6})
    yield "transform-of-cut-rows", "invalid", levels(cut | {(2, 0, 12): 1})
    yield "transform-of-integers", "invalid", levels(integers | {(2, 0, 12): 1})
    yield "transform-with-column-permutation", "invalid", levels({(2, 0, 12): 1, (2, 0, 8): 1 << 7})


def references():
    two = {(0, 0, 1): 8, (1, 1): {0: "u", 1: U8, 2: [4], 3: 0, 4: 4, 5: [1]}, (2, 1): {0: 0, 1: 0, 2: 4, 9: [0, 0]}}
    yield "reference-to-itself", "invalid", planes(two | {(2, 1, 9): [0, 1]})
    yield "reference-to-a-later-one", "invalid", planes(two | {(2, 0, 9): [0, 1]})
    yield "reference-of-source-2", "invalid", planes(two | {(2, 1, 9): [2, 0]})
    yield "reference-of-three", "invalid", planes(two | {(2, 1, 9): [0, 0, 0]})
    yield "reference-to-no-base", "invalid", planes(two | {(2, 1, 9): [1, 0]})
    yield "base-without-reference", "invalid", planes({(5,): bytes(16)})
    yield "reference-of-another-chunk-len", "invalid", planes(two | {(2, 1, 2): 8})
    yield "reference-of-another-dtype", "invalid", planes(two | {(1, 1, 1): 4})
    yield "reference-of-another-record", "invalid", planes(two | {(2, 1, 14): [4]})
    yield "gain-of-predicted-planes", "invalid", planes(two | {(2, 1, 10): 255})
    predicted = LEVELS_HEADER[2][0] | {9: [0, 0]}
    two = {(0, 0, 1): 32, (1, 1): {0: "u", 1: F32, 2: [4], 3: 0, 4: 16, 5: [1]}, (2, 1): predicted}
    yield "reference-of-another-matrix", "invalid", levels(two | {(2, 1, 3): [1, 4, 1]})
    yield "reference-of-other-taps", "invalid", levels(two | {(2, 1, 3): [2, 1, 2]})
    yield "reference-of-another-layout", "invalid", levels(two | {(2, 1, 13): 1})
    yield "reference-of-another-coding", "invalid", levels(two | {(2, 1): {0: 0, 1: 0, 2: 4, 9: [0, 0]}})
    yield "gain-of-17-bits", "invalid", levels(two | {(2, 1, 10): 32768})
    edge = [coded_levels(escapes=[(0, (1 << 24) - 1)])]
    yield "prediction-out-of-range", "invalid", levels(two | {(2, 1, 10): 257}, edge)
    yield "level-out-of-range", "invalid", levels(two | {(2, 1, 10): 1}, edge)
    long = {(0, 0, 1): 4 * 18}
    for index in range(1, 18):
        long[(1, index)] = {0: "u", 1: U8, 2: [4], 3: 0, 4: 4 * index, 5: [index]}
        long[(2, index)] = {0: 0, 1: 0, 2: 4, 9: [0, index - 1]}
    yield "references-17", "limit-exceeded", planes(long)


def side_chunks():
    def side(bit, data):
        return levels({(2, 0, 8): 1 << bit}, [data, *LEVELS_CHUNKS])

    yield "side-goes-on", "invalid", side(0, raw(bytes(2)) + b"\0")
    yield "side-ends", "invalid", side(0, raw(bytes(1)))
    yield "side-guided", "invalid", side(0, guided(bytes(2), 12, 0, 0, bytes(2)))
    large = {(2, 0, 5): Float(2.0**99)}
    yield "scales-too-large", "invalid", levels(large | {(2, 0, 8): 1 << 3}, [raw(bytes([17, 0])), *LEVELS_CHUNKS])
    yield "scales-too-small", "invalid", levels({(2, 0, 5): Float(2.0**-100), (2, 0, 8): 1 << 3}, [raw(bytes([255, 0])), *LEVELS_CHUNKS])
    yield "permutation-padding", "invalid", side(6, b"\2")
    three = {(0, 0, 1): 12, (1, 0, 2): [3, 1], (2, 0, 3): [3, 1, 1], (2, 0, 2): 3, (2, 0, 8): 1 << 6}
    symbols = levels_chunk([[0], [1], [2]], lambda *_: SYMBOLS)
    yield "permutation-6-of-6", "invalid", levels(three, [b"\6", symbols])


def plane_payloads():
    yield "mode-6", "unsupported", payload(b"\6abcd")
    yield "chunk-goes-on", "invalid", payload(raw(b"abcd") + b"\0")
    yield "chunk-ends", "invalid", payload(raw(b"abc"))
    yield "no-mode", "invalid", payload(b"")
    yield "constant-ends", "invalid", payload(b"\1")
    yield "guided-key-frame", "invalid", payload(guided(b"abcd", 12, 0, 0, b"abcd"))
    good = adaptive(b"abcd", 12, 1, 0)
    yield "adaptive-limit-0", "invalid", payload(good[:1] + b"\0" + good[2:])
    yield "adaptive-distance-0", "invalid", payload(good[:2] + b"\0" + good[3:])
    yield "adaptive-context-bits-9", "invalid", payload(good[:3] + b"\x09" + good[4:])
    yield "adaptive-state-below", "invalid", payload(good[:4] + b"\xff\xff\0\0" + good[8:])
    yield "adaptive-ends", "invalid", payload(good[:-2])
    yield "adaptive-goes-on", "invalid", payload(good + b"\0\0")
    other = good[:4] + bytes([good[4] ^ 1]) + good[5:]
    yield "adaptive-does-not-return", "invalid", payload(other)


def copied_planes():
    def stored(lens, planes):
        return payload(b"\3" + b"".join(map(varint, lens)) + b"".join(planes), 12)

    parts = [raw(b"abcdefg"), raw(b"\7"), raw(b"\1"), constant(b"\6"), constant(b"\0"), constant(b"\0")]
    lens = [7, 1, 1, 1]
    assert outcome(stored(lens, parts))["code"] == "ok"

    def instead(index, part):
        return stored(lens, [*parts[:index], part, *parts[index + 1 :]])

    yield "copies-of-too-many", "invalid", stored([9, 1, 1, 1], [raw(b"abcdefghi"), *parts[1:]])
    yield "copies-with-varints-lacking", "invalid", stored([7, 1, 0, 1], [parts[0], raw(b""), *parts[2:]])
    yield "copies-with-varints-too-long", "invalid", stored([7, 1, 1, 2], [*parts[:2], raw(b"\1\0"), *parts[3:]])
    yield "copies-from-before", "invalid", instead(3, constant(b"\7"))
    yield "copies-beyond", "invalid", instead(2, raw(b"\2"))
    yield "copies-short", "invalid", instead(2, raw(b"\0"))
    yield "copies-of-literals-lacking", "invalid", instead(1, raw(b"\x08"))
    yield "copies-of-copies", "invalid", instead(0, copies([], b"abcdefg"))
    yield "copies-guided", "invalid", instead(0, guided(b"abcdefg", 12, 0, 0, bytes(7)))
    yield "copies-with-a-long-varint", "invalid", payload(copies([], b"abcd").replace(b"\3\4", b"\3\x84\0"))
    yield "copies-with-a-varint-of-33-bits", "invalid", payload(b"\3" + b"\xff" * 4 + b"\x1f" + bytes(12))


def tables():
    def plane(table):
        state = struct.pack("<I", ans([(2048, 0)] * 4)[0])
        return payload(b"\2" + table + b"\0\0\0" + state)

    halves = varint(2048)
    assert outcome(plane(b"\0\1" + 2 * halves))["code"] == "ok"
    yield "table-of-one-symbol", "invalid", plane(b"\1\1" + varint(4096))
    yield "table-of-4095", "invalid", plane(b"\0\1" + varint(2047) + halves)
    yield "table-of-a-frequency-of-4096", "invalid", plane(b"\0\1" + varint(4096) + b"\0")
    yield "table-begins-with-0", "invalid", plane(b"\0\2\0" + 2 * halves)
    yield "table-ends-with-0", "invalid", plane(b"\0\2" + 2 * halves + b"\0")
    coarse = [("step-below-0", [(1, 1), (0, 1), (1, 1)]), ("step-44", [(1, 1)] * 44 + [(0, 1), (0, 1)])]
    coarse.append(("sum-above-4096", [(1, 1)] * 43 + [(0, 1), (0, 1)] + [(0, 1)] * 2))
    coarse.append(("begins-with-0", [(0, 1)] * 2 + [(1, 1), (0, 1), (0, 1)]))
    coarse.append(("padding", [(1, 1), (0, 1), (0, 1), (0, 1), (0, 1), (1, 1)]))
    for name, fields in coarse:
        yield f"coarse-table-{name}", "invalid", plane(b"\1\0" + bits(fields) + b"\0" * (name == "step-below-0"))
    yield "tables-of-the-header-cut", "invalid", levels({(3,): SYMBOLS.stored[:-1]})


def level_payloads():
    good = LEVELS_CHUNKS[0]
    yield "lanes-512", "invalid", levels((), [b"\x09" + good[1:]])
    yield "lane-state-below", "invalid", levels((), [good[:3] + b"\xff\xff\0\0" + good[7:]])
    yield "lane-does-not-return", "invalid", levels((), [good[:3] + bytes([good[3] ^ 1]) + good[4:]])
    yield "lane-with-a-word-left", "invalid", levels((), [b"\0\1\0\0\0" + good[3:]])
    others = struct.pack("<3I", 1 << 16, 1 << 16, 1 << 17)
    yield "lane-without-symbols", "invalid", levels((), [b"\2" + bytes(8) + good[3:7] + others + b"\0"])
    yield "escape-after-the-chunk", "invalid", levels((), [coded_levels(escapes=[(4, 1)])])
    yield "escape-out-of-range", "invalid", levels((), [coded_levels(escapes=[(0, 1 << 24)])])
    yield "escapes-end", "invalid", levels((), [good[:-1] + b"\1"])
    yield "levels-go-on", "invalid", levels((), [good + b"\0"])
    yield "low-bits-padding", "invalid", levels({(2, 0, 7): 1}, [coded_levels(low=b"\x10")])
    yield "low-bits-end", "invalid", levels({(2, 0, 7): 3}, [coded_levels(low=b"\0")])


GROUPS = [preambles, cbor_items, files, tensors, frames, frames_of_levels, references, side_chunks]
GROUPS += [plane_payloads, copied_planes, tables, level_payloads]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="writes the list instead of comparing with it")
    arguments = parser.parse_args()
    assert outcome(planes())["code"] == outcome(levels())["code"] == "ok"
    rules = [rule for group in GROUPS for rule in group()]
    lines = [f"{name} {code} {archive.hex()}" for name, code, archive in rules]
    if arguments.write:
        LIST.write_text("\n".join(["# the rule that is broken, code of the error, archive", *lines, ""]))
    wrong = []
    for name, code, archive in rules:
        found = outcome(archive)
        if found["code"] != code:
            wrong.append(f"{name}: {found['code']} instead of {code}: {found['message']}")
    if LIST.read_text().splitlines()[1:] != lines:
        wrong.append("the list is not what is composed")
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(rules)} rules")


if __name__ == "__main__":
    main()
