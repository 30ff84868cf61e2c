"""The header (section 4): CBOR into the entries of files, tensors and frames, each field of its type."""

import math
from dataclasses import dataclass, field

import cbor
from dtypes import DTYPES
from errors import Invalid, Unsupported

UINT_MAX = (1 << 64) - 1
REQUIRED = object()


@dataclass
class File:
    name: str
    bytes: int
    first_raw_chunk: int


@dataclass
class Tensor:
    name: str
    dtype: int
    shape: list
    file: int
    offset: int
    frames: list

    @property
    def elements(self):
        return math.prod(self.shape)

    @property
    def end(self):
        return self.offset + DTYPES[self.dtype].tensor_bytes(self.elements)


@dataclass
class Frame:
    coding: int
    first_chunk: int
    chunk_len: int
    matrix: list
    tables: list
    scale: float
    zero_point: int
    low_bits: int
    side: int
    reference: list
    gain: int
    quantizer: int
    transform: int
    layout: int
    record: list
    # The keys of fields that are there.
    keys: set = field(default_factory=set)


@dataclass
class Header:
    files: list
    tensors: list
    frames: list
    tables: bytes
    chunk_table: bytes
    base: bytes
    metadata: dict


def uint(value):
    if type(value) is not int or not 0 <= value <= UINT_MAX:
        raise Invalid("a field is no unsigned integer")
    return value


def int32(value):
    if type(value) is not int or not -(1 << 31) <= value < 1 << 31:
        raise Invalid("a field is no integer of 32 bits")
    return value


def text(value):
    if not isinstance(value, str):
        raise Invalid("a field is no text")
    return value


def string(value):
    if not isinstance(value, bytes):
        raise Invalid("a field is no string of bytes")
    return value


def float32(value):
    if not isinstance(value, cbor.Float):
        raise Invalid("a field is no float32")
    return float(value)


def array(of, length=None, least=0):
    def typed(value):
        if not isinstance(value, list) or len(value) < least or (length is not None and len(value) != length):
            raise Invalid("a field is no array of its length")
        return [of(item) for item in value]

    return typed


def integrity(value):
    if len(string(value)) != 16:
        raise Invalid("an integrity is not of 16 bytes")
    return value


def metadata(value):
    if not isinstance(value, dict) or not all(isinstance(text, str) for entry in value.items() for text in entry):
        raise Invalid("metadata is no map of texts")
    return value


def _entry(kind, fields):
    """Fields in the order of their keys: (type, default)."""

    def typed(value):
        if not isinstance(value, dict):
            raise Invalid("an entry is no map")
        for key in value:
            if key not in range(len(fields)):
                raise Unsupported(f"key {key!r} of a {kind.__name__.lower()}")
        values = []
        for key, (of, default) in enumerate(fields):
            if key not in value and default is REQUIRED:
                raise Invalid(f"key {key} of a {kind.__name__.lower()} is missing")
            values.append(of(value[key]) if key in value else default)
        entry = kind(*values)
        if kind is Frame:
            entry.keys = set(value)
        return entry

    return typed


_file = _entry(File, [(text, REQUIRED), (uint, REQUIRED), (uint, REQUIRED)])
_tensor = _entry(
    Tensor,
    [
        (text, REQUIRED),
        (uint, REQUIRED),
        (array(uint), REQUIRED),
        (uint, REQUIRED),
        (uint, REQUIRED),
        (array(uint, least=1), None),
    ],
)
_frame = _entry(
    Frame,
    [
        (uint, REQUIRED),
        (uint, REQUIRED),
        (uint, REQUIRED),
        (array(uint, 3), None),
        (array(uint, 2), None),
        (float32, None),
        (int32, 0),
        (uint, 0),
        (uint, 0),
        (array(uint, 2), None),
        (int32, 256),
        (uint, 0),
        (uint, 0),
        (uint, 0),
        (array(uint, least=1), None),
    ],
)
_header = _entry(
    Header,
    [
        (array(_file), REQUIRED),
        (array(_tensor), REQUIRED),
        (array(_frame), REQUIRED),
        (string, REQUIRED),
        (string, REQUIRED),
        (integrity, None),
        (metadata, None),
    ],
)


def parse_header(data):
    return _header(cbor.parse(data))
