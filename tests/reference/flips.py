#!/usr/bin/env python3
"""Small archives with every bit flipped and cut at every place, their hashes repaired: what becomes of each.

    python3 tests/reference/flips.py [--write]

`tests/vectors/flips.txt` lists those that are still archives, by their place in the order of `mutations`, with a hash of their
files. All others are refused. The native reader and the package are held to the same list (tests/format.rs, tests/conformance.test.mjs),
and compose the mutations by themselves.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from decode import decode
from errors import McwcError

VECTORS = Path(__file__).parent.parent / "vectors"
LIST = VECTORS / "flips.txt"
NAMES = ["small-levels.mcwc", "small-planes.mcwc", "small-coded.mcwc"]
PREAMBLE_BYTES, HASH_AT, HASHED_BYTES = 32, 16, 16
CHUNK_ENTRY_BYTES = 20


def hash_of(data):
    return hashlib.sha256(data).digest()[:16]


class Layout:
    """Where the header and the chunks lie, and the entries of the chunk table, with which a header that is not coded ends."""

    def __init__(self, archive):
        self.header_end = PREAMBLE_BYTES + int.from_bytes(archive[12:16], "little")
        self.chunks = []
        entry = self.header_end
        end = len(archive)
        is_coded = archive[10] & 1
        while not is_coded and end > self.header_end:
            entry -= CHUNK_ENTRY_BYTES
            start = end - int.from_bytes(archive[entry : entry + 4], "little")
            self.chunks.insert(0, (entry, start, end))
            end = start


def repair_header(archive):
    """Its hash, if all of it is there."""
    header_end = PREAMBLE_BYTES + int.from_bytes(archive[12:16], "little")
    if header_end <= len(archive):
        archive[HASH_AT:PREAMBLE_BYTES] = hash_of(archive[:HASHED_BYTES] + archive[PREAMBLE_BYTES:header_end])
    return bytes(archive)


def flipped(original, layout, bit):
    """A flip in the header's hash is left as it is, as are those of chunks in the header."""
    archive = bytearray(original)
    place = bit // 8
    archive[place] ^= 1 << bit % 8
    if HASH_AT <= place < PREAMBLE_BYTES:
        return bytes(archive)
    for entry, start, end in layout.chunks:
        if start <= place < end:
            archive[entry + 4 : entry + CHUNK_ENTRY_BYTES] = hash_of(archive[start:end])
    return repair_header(archive)


def cut_header(original, layout, header_bytes):
    archive = bytearray(original)
    archive[12:16] = header_bytes.to_bytes(4, "little")
    del archive[PREAMBLE_BYTES + header_bytes : layout.header_end]
    return repair_header(archive)


def cut_chunk(original, chunk, chunk_bytes):
    entry, start, end = chunk
    archive = bytearray(original)
    archive[entry : entry + 4] = chunk_bytes.to_bytes(4, "little")
    archive[entry + 4 : entry + CHUNK_ENTRY_BYTES] = hash_of(archive[start : start + chunk_bytes])
    del archive[start + chunk_bytes : end]
    return repair_header(archive)


def mutations(original):
    """Every flip; every archive that ends early; every header that does; every chunk that does."""
    layout = Layout(original)
    for bit in range(8 * len(original)):
        yield flipped(original, layout, bit)
    for byte_len in range(len(original)):
        yield original[:byte_len]
    for header_bytes in range(layout.header_end - PREAMBLE_BYTES):
        yield cut_header(original, layout, header_bytes)
    for chunk in layout.chunks:
        _, start, end = chunk
        for chunk_bytes in range(end - start):
            yield cut_chunk(original, chunk, chunk_bytes)


def outcome(archive):
    """A hash of all files, names included; `None` if the archive is refused."""
    try:
        files = decode(archive)
    except McwcError:
        return None
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()[:16]


def outcomes(name):
    original = (VECTORS / "valid" / name).read_bytes()
    for index, archive in enumerate(mutations(original)):
        found = outcome(archive)
        if found:
            yield f"{name} {index} {found}"
    yield f"{name} of {index + 1}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="writes the list instead of comparing with it")
    arguments = parser.parse_args()
    lines = [line for name in NAMES for line in outcomes(name)]
    if arguments.write:
        LIST.write_text("\n".join(["# archive, mutation, hash of what it decodes to; all others are refused", *lines, ""]))
    listed = LIST.read_text().splitlines()[1:]
    for line in sorted(set(lines) ^ set(listed)):
        print(f"{'found' if line in lines else 'listed'}: {line}", file=sys.stderr)
    print(f"{len(lines) - len(NAMES)} mutations that decode, {sum(int(line.split()[2]) for line in lines if ' of ' in line)} in all")
    sys.exit(lines != listed)


if __name__ == "__main__":
    main()
