"""An archive's bytes into its header, its tables and its chunks (sections 3 and 4)."""

import hashlib

import limits
from checks import check_header
from entropy import read_table
from errors import BadArgument, Checksum, Incomplete, Invalid, Unsupported
from header import parse_header
from planes import decode_plane
from reading import Cursor

MAGIC = bytes.fromhex("8D4D4357430D0A1A")
VERSION = 1
CODED = 1
PREAMBLE_BYTES = 32
HASH_BYTES = 16
CHUNK_ENTRY_BYTES = 4 + HASH_BYTES


def hash_of(*parts):
    return hashlib.sha256(b"".join(parts)).digest()[:HASH_BYTES]


class Archive:
    """A checked header, what it says of every frame, and the bytes of chunks. `base` is an archive too."""

    def __init__(self, data, bases, budget):
        self.budget = budget
        stored = stored_header(data)
        self.integrity = bytes(data[16:32])
        self.header = parse_header(decoded_header(data, stored, budget))
        self.tables = _tables(self.header.tables)
        self.chunks = _chunks(self.header.chunk_table, data, PREAMBLE_BYTES + len(stored))
        self.frames = check_header(self.header, len(self.chunks), len(self.tables))
        self.base = None
        if self.header.base is not None:
            self.base = _base(self.header.base, bases, budget)
        self.link_references()

    def chunk(self, index):
        data, expected = self.chunks[index]
        if hash_of(data) != expected:
            raise Checksum(f"chunk {index}")
        return data

    def reference(self, frame):
        """The archive and the frame that a predicted frame names."""
        source, index = frame.entry.reference
        archive = self.base if source else self
        if index >= len(archive.frames):
            raise Invalid("a frame is predicted from one that its archive does not have")
        return archive, archive.frames[index]

    def link_references(self):
        for frame in self.frames:
            if frame.entry.reference is not None:
                archive, reference = self.reference(frame)
                frame.check_reference(reference)
                frame.steps = reference.steps + 1
                limits.within(frame.steps, limits.MAX_REFERENCES, "references in a row")


def stored_header(data):
    """The header as stored, once the preamble is known to be right."""
    preamble = data[:PREAMBLE_BYTES]
    if preamble[:8] != MAGIC[: len(preamble)]:
        raise Invalid("the magic number of another format")
    if len(preamble) < PREAMBLE_BYTES:
        raise Incomplete("the preamble ends early")
    version, flags = (int.from_bytes(preamble[at : at + 2], "little") for at in (8, 10))
    if version != VERSION:
        raise Unsupported(f"version {version}")
    if flags & ~CODED:
        raise Unsupported(f"flags {flags:#x}")
    header_bytes = int.from_bytes(preamble[12:16], "little")
    limits.within(header_bytes, limits.HEADER_BYTES, "header")
    stored = data[PREAMBLE_BYTES : PREAMBLE_BYTES + header_bytes]
    if len(stored) < header_bytes:
        raise Incomplete("the header ends early")
    if hash_of(data[:16], stored) != preamble[16:]:
        raise Checksum("the header")
    return stored


def decoded_header(data, stored, budget):
    if not data[10] & CODED:
        return stored
    cursor = Cursor(stored)
    length = cursor.uint(4)
    limits.within(length, limits.HEADER_BYTES, "header")
    decoded = decode_plane(cursor, length, budget)
    cursor.end()
    return decoded


def _tables(data):
    cursor = Cursor(data)
    tables = []
    while cursor.at < len(data):
        tables.append(read_table(cursor, is_signed=True))
        limits.within(len(tables), limits.MAX_TABLES, "tables")
    return tables


def _chunks(chunk_table, data, offset):
    """Bytes and hash of every chunk; they take the rest of the archive exactly."""
    if len(chunk_table) % CHUNK_ENTRY_BYTES:
        raise Invalid("the chunk table is no whole number of entries")
    chunks = []
    for at in range(0, len(chunk_table), CHUNK_ENTRY_BYTES):
        length = int.from_bytes(chunk_table[at : at + 4], "little")
        limits.within(length, limits.MAX_CHUNK_BYTES, "chunk")
        chunks.append((data[offset : offset + length], chunk_table[at + 4 : at + CHUNK_ENTRY_BYTES]))
        offset += length
    if offset > len(data):
        raise Incomplete("the chunks end early")
    if offset < len(data):
        raise Invalid("bytes follow the last chunk")
    return chunks


def _base(integrity, bases, budget):
    for data in bases:
        if data[16:32] == integrity:
            return Archive(data, bases, budget)
    raise BadArgument(f"the base, whose integrity is {integrity.hex()}, is not given")
