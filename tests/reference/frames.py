"""Frames (section 5): their chunks into levels or bytes, and those into the bytes of a tensor.

What is decoded is kept, so that tensors may share a frame and frames a reference at no cost.
"""

import struct
from array import array
from operator import mul

from checks import COLUMN_MAJOR, DCT
from dtypes import cast, wrap
from levels import check_levels, decode_levels
from planes import decode_plane
from prediction import add_differences, add_predictions
from reading import Cursor
from side import Side
from stages import inverse_transform
from values import scale_of

UNSIGNED = {1: "B", 2: "H", 4: "I", 8: "Q"}


class FrameDecoder:
    def __init__(self, archive, frame):
        self.archive = archive
        self.frame = frame
        self.kept = {}
        self.kept_side = None
        self.reference = None
        if frame.entry.reference is not None:
            self.reference = decoder_of(*archive.reference(frame))

    def tensor_bytes(self):
        if self.frame.is_levels:
            return self._values()
        return b"".join(self.chunk_bytes(chunk) for chunk in range(self.frame.geometry.count))

    # Levels

    def side(self):
        if self.kept_side is None:
            entry = self.frame.entry
            cursor = Cursor(self.archive.chunk(entry.first_chunk)) if entry.side else None
            self.kept_side = Side(entry, cursor, self.archive.budget)
        return self.kept_side

    def levels(self, chunk):
        if chunk not in self.kept:
            side = self.side()
            levels = decode_levels(self.archive, self.frame, side, chunk)
            if self.reference is not None and chunk < self.reference.frame.geometry.count:
                rows, columns = self.frame.geometry.rectangle(chunk)
                gains = side.gains[rows.start : rows.stop]
                add_predictions(levels, self.reference.levels(chunk), gains, len(columns))
            check_levels(levels, "level")
            self.kept[chunk] = levels
        return self.kept[chunk]

    def _values(self):
        """Every level at its place in the tensor, as the tensor's type."""
        frame, side = self.frame, self.side()
        entry, geometry, dtype = frame.entry, frame.geometry, frame.dtype
        is_float = entry.scale is not None
        values = array("f", bytes(4 * geometry.elements)) if is_float else [0] * geometry.elements
        for chunk in range(geometry.count):
            rows, columns = geometry.rectangle(chunk)
            levels = self.levels(chunk)
            places = side.column_permutation[columns.start : columns.stop]
            for index, row in enumerate(rows):
                row_levels = levels[index * len(columns) : (index + 1) * len(columns)]
                if is_float:
                    row_values = self._scaled(row_levels, row, columns)
                else:
                    row_values = [level + entry.zero_point for level in row_levels]
                row_place = side.row_permutation[row]
                row_step, column_step = (1, geometry.rows) if entry.layout == COLUMN_MAJOR else (geometry.row_len, 1)
                for value, column_place in zip(row_values, places):
                    values[row_place * row_step + column_place * column_step] = value
        return cast(values, dtype) if is_float else wrap(values, dtype)

    def _scaled(self, levels, row, columns):
        entry, side = self.frame.entry, self.side()
        exponents = side.column_exponents[columns.start : columns.stop]
        scales = {exponent: scale_of(entry.scale, side.row_exponents[row] + exponent) for exponent in set(exponents)}
        values = array("f", map(mul, levels, map(scales.get, exponents)))
        return inverse_transform(values, entry.matrix[2]) if entry.transform == DCT else values

    # Planes

    def chunk_bytes(self, chunk):
        if chunk not in self.kept:
            self.kept[chunk] = self._decode_chunk_bytes(chunk)
        return self.kept[chunk]

    def _decode_chunk_bytes(self, chunk):
        geometry, dtype = self.frame.geometry, self.frame.dtype
        length = geometry.chunk_bytes(chunk)
        cursor = Cursor(self.archive.chunk(self.frame.first_element_chunk + chunk))
        predicted_from = None
        if self.reference is not None:
            predicted_from = _elements(self._reference_bytes(chunk, length), dtype)
        elements = _elements_of_planes(cursor, geometry, length, self.archive.budget, predicted_from)
        if predicted_from is not None:
            elements = add_differences(elements, predicted_from, 8 * geometry.element_bytes, dtype.rotated)
        return _bytes(elements, dtype)

    def _reference_bytes(self, chunk, length):
        """Of the same length as the chunk."""
        reference = self.reference
        found = reference.chunk_bytes(chunk) if chunk < reference.frame.geometry.count else b""
        return found[:length].ljust(length, b"\0")


def decoder_of(archive, frame):
    """The one decoder of a frame."""
    if frame.decoder is None:
        frame.decoder = FrameDecoder(archive, frame)
    return frame.decoder


def _elements_of_planes(cursor, geometry, length, budget, predicted_from):
    """The unsigned integers whose bytes, or whose fields of records, the planes are."""
    records = length // geometry.record_bytes
    interleaved = bytearray(length)
    guides = None
    if predicted_from is not None:
        guides = struct.pack(f"<{len(predicted_from)}{UNSIGNED[geometry.element_bytes]}", *predicted_from)
    offset = 0
    for field in geometry.fields:
        places = [offset + byte for byte in range(field)]

        def guide(distance, places=places):
            padded = guides + bytes(distance)
            own = (record + place for record in range(0, length, geometry.record_bytes) for place in places)
            return bytes(padded[place + distance] for place in own)

        plane = decode_plane(cursor, field * records, budget, guide if guides is not None else None)
        for byte, place in enumerate(places):
            interleaved[place :: geometry.record_bytes] = plane[byte::field]
        offset += field
    cursor.end()
    code = UNSIGNED[geometry.element_bytes]
    return struct.unpack(f"<{length // geometry.element_bytes}{code}", interleaved)


def _elements(data, dtype):
    """Unsigned integers, whose sign comes last if they are floats."""
    size = dtype.element_bytes
    elements = struct.unpack(f"<{len(data) // size}{UNSIGNED[size]}", data)
    if not dtype.rotated:
        return elements
    mask, top = (1 << 8 * size) - 1, 8 * size - 1
    return [(bits << 1 & mask) | bits >> top for bits in elements]


def _bytes(elements, dtype):
    size = dtype.element_bytes
    if dtype.rotated:
        top = 8 * size - 1
        elements = [u >> 1 | (u & 1) << top for u in elements]
    return struct.pack(f"<{len(elements)}{UNSIGNED[size]}", *elements)
