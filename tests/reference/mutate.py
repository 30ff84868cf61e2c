#!/usr/bin/env python3
"""Archives damaged at random, their hashes right, and what becomes of each: what other decoders are compared with.

    python3 tests/reference/mutate.py COUNT FOLDER [--seed SEED]

Writes them into a folder that is there, and prints a line of JSON for each, as outcomes.py does, with `path` and `bases`.
"""

import argparse
import json
import random
from pathlib import Path

import cbor
from compose import assemble, raw
from container import Archive, decoded_header, stored_header
from header import UINT_MAX
from limits import Budget
from outcomes import outcome

VALID = Path(__file__).parent.parent / "vectors/valid"
MAX_BYTES = 16 << 10
# Small archives are taken more often, as large ones take longer: as if each had so many bytes more.
EVEN_BYTES = 500
# Of numbers in headers.
EDGES = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 64, 127, 128, 129, 255, 256, 257, 1023, 1024, 65535, 65536]
EDGES += [(1 << bits) + near for bits in (18, 24, 31, 32, 63) for near in (-1, 0, 1)] + [UINT_MAX, -1, -5, -129]


class Seed:
    """A valid archive, taken apart."""

    def __init__(self, path, bases):
        data = path.read_bytes()
        self.bases = bases
        self.weight = 1 / (EVEN_BYTES + len(data))
        self.header = cbor.parse(decoded_header(data, stored_header(data), Budget()))
        self.chunks = [chunk for chunk, _ in Archive(data, [base.read_bytes() for base in bases], Budget()).chunks]


def seeds():
    lines = [line.split(" ") for line in (VALID / "digests.txt").read_text().splitlines() if not line.startswith("#")]
    base_of = {name: base for name, _, _, *base in lines}
    for name, base in base_of.items():
        # The native command takes no base of a base.
        is_simple = not base or not base_of[base[0]]
        if is_simple and (VALID / name).stat().st_size <= MAX_BYTES and not name.startswith(("slow-", "transform-")):
            yield Seed(VALID / name, [VALID / part for part in base])


def damaged_bytes(data, others, noise):
    data = bytearray(data)
    place = noise.randrange(len(data) + 1)
    choice = noise.randrange(6)
    if choice < 3 and data:
        place = min(place, len(data) - 1)
        data[place] = [data[place] ^ 1 << noise.randrange(8), noise.choice([0, 1, 127, 128, 255]), noise.randrange(256)][choice]
    elif choice == 3:
        del data[place : place + noise.randint(1, 4)]
    elif choice == 4:
        data[place:place] = noise.randbytes(noise.randint(1, 4))
    else:
        other = noise.choice(others)
        data[place:] = other[noise.randrange(len(other) + 1) :]
    return bytes(data)


def damage_header(item, noise):
    """Changes one number, string or entry somewhere in it, in place."""
    while True:
        entries = range(len(item)) if isinstance(item, list) else list(item)
        if not entries:
            return
        key = noise.choice(entries)
        value = item[key]
        if isinstance(value, (list, dict)) and value and noise.random() < 0.9:
            item = value
            continue
        break
    if noise.random() < 0.1:
        del item[key]
    elif isinstance(value, cbor.Float):
        item[key] = cbor.Float(value * noise.choice([0.0, -1.0, 0.5, 2.0**40, 2.0**100]))
    elif isinstance(value, int):
        near = min(UINT_MAX, max(0, value + noise.choice([-1, 1])))
        item[key] = noise.choice([noise.choice(EDGES), near, value ^ 1 << noise.randrange(5)])
    elif isinstance(value, bytes) and value:
        item[key] = damaged_bytes(value, [value], noise)
    elif isinstance(value, str):
        item[key] = value + noise.choice(["", "/", "a", "\0", "é"])
    elif isinstance(item, list):
        item.insert(noise.randrange(len(item) + 1), value)
    elif isinstance(item, dict):
        item[noise.randrange(16)] = noise.choice(EDGES)


def copied(item):
    """Headers are trees of few types; a float keeps its own."""
    if isinstance(item, dict):
        return {key: copied(value) for key, value in item.items()}
    return [copied(value) for value in item] if isinstance(item, list) else item


def mutant(seed, noise):
    header, chunks = copied(seed.header), list(seed.chunks)
    for _ in range(noise.choice([1, 1, 1, 2, 3])):
        if chunks and noise.random() < 0.7:
            index = noise.randrange(len(chunks))
            chunks[index] = damaged_bytes(chunks[index], chunks, noise)
        else:
            damage_header(header, noise)
    return assemble(header, chunks, raw if noise.random() < 0.5 else None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    noise = random.Random(arguments.seed)
    parts = list(seeds())
    weights = [seed.weight for seed in parts]
    for index in range(arguments.count):
        (seed,) = noise.choices(parts, weights)
        archive = mutant(seed, noise)
        path = arguments.folder / f"{index}.mcwc"
        path.write_bytes(archive)
        found = outcome(archive, [base.read_bytes() for base in seed.bases])
        print(json.dumps({"path": str(path), "bases": [str(base) for base in seed.bases], **found}), flush=True)


if __name__ == "__main__":
    main()
