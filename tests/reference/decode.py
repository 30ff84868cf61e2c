#!/usr/bin/env python3
"""Decodes archives as docs/FORMAT.md says, plainly: a second opinion on every other decoder.

    python3 decode.py ARCHIVE -o DIRECTORY [--base BASE]…
"""

import argparse
import sys
from pathlib import Path

from checks import PIECE_BYTES, coded_tensors, raw_ranges
from container import Archive
from errors import McwcError
from frames import decoder_of
from limits import Budget
from planes import decode_plane
from reading import Cursor


def decode(data, bases=()):
    """Every file of an archive: its name and its bytes. `bases` are archives that it may be predicted from."""
    archive = Archive(bytes(data), [bytes(base) for base in bases], Budget())
    return {file.name: _file(archive, index) for index, file in enumerate(archive.header.files)}


def _file(archive, index):
    """Tensors at their places, and the raw stream around them."""
    content = bytearray(archive.header.files[index].bytes)
    for tensor in coded_tensors(archive.header, index):
        content[tensor.offset : tensor.end] = decoder_of(archive, archive.frames[tensor.frames[-1]]).tensor_bytes()
    raw_stream, at = _raw_stream(archive, index), 0
    for start, end in raw_ranges(archive.header, index):
        content[start:end] = raw_stream[at : at + end - start]
        at += end - start
    return bytes(content)


def _raw_stream(archive, index):
    length = sum(end - start for start, end in raw_ranges(archive.header, index))
    chunk = archive.header.files[index].first_raw_chunk
    pieces = []
    for start in range(0, length, PIECE_BYTES):
        cursor = Cursor(archive.chunk(chunk + start // PIECE_BYTES))
        pieces.append(decode_plane(cursor, min(PIECE_BYTES, length - start), archive.budget))
        cursor.end()
    return b"".join(pieces)


def main():
    parser = argparse.ArgumentParser(description="Decodes an mcwc archive, slowly and plainly.")
    parser.add_argument("archive", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--base", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    try:
        files = decode(arguments.archive.read_bytes(), [base.read_bytes() for base in arguments.base])
        for name, content in files.items():
            path = arguments.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except McwcError as error:
        sys.exit(f"{error.code}: {error}")
    except OSError as error:
        sys.exit(f"io: {error}")


if __name__ == "__main__":
    main()
