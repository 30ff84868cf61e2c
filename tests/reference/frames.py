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


def decoder_of(archive, frame):
    """The one decoder of a frame."""
    if frame.decoder is None:
        frame.decoder = (LevelsDecoder if frame.is_levels else PlanesDecoder)(archive, frame)
    return frame.decoder


class FrameDecoder:
    def __init__(self, archive, frame):
        self.archive = archive
        self.frame = frame
        self.kept = {}
        self.reference = None
        if frame.entry.reference is not None:
            self.reference = decoder_of(*archive.reference(frame))

    def chunk(self, index):
        """What an element chunk holds: levels in coded order, or bytes."""
        if index not in self.kept:
            payload = self.archive.chunk(self.frame.first_element_chunk + index)
            self.kept[index] = self.decode(index, Cursor(payload))
        return self.kept[index]

    def reference_chunk(self, index):
        """The same chunk of the reference; empty if it has none, or there is no reference."""
        if self.reference is None or index >= self.reference.frame.geometry.count:
            return b""
        return self.reference.chunk(index)


class LevelsDecoder(FrameDecoder):
    def __init__(self, archive, frame):
        super().__init__(archive, frame)
        cursor = Cursor(archive.chunk(frame.entry.first_chunk)) if frame.entry.side else None
        self.side = Side(frame.entry, cursor, archive.budget)

    def decode(self, index, cursor):
        rows, columns = self.frame.geometry.rectangle(index)
        entry = self.frame.entry
        tables = self.archive.tables[entry.tables[0] : sum(entry.tables)]
        self.archive.budget.spend(len(rows) * len(columns))
        levels = decode_levels(cursor, entry, tables, self.side, rows, columns)
        add_predictions(levels, self.reference_chunk(index), self.side.gains[rows.start : rows.stop], len(columns))
        check_levels(levels, "level")
        return levels

    def tensor_bytes(self):
        """Every level at its place in the tensor, as the tensor's type."""
        entry, geometry = self.frame.entry, self.frame.geometry
        is_float = entry.scale is not None
        values = array("f", bytes(4 * geometry.elements)) if is_float else [0] * geometry.elements
        row_step, column_step = (1, geometry.rows) if entry.layout == COLUMN_MAJOR else (geometry.row_len, 1)
        for index in range(geometry.count):
            rows, columns = geometry.rectangle(index)
            levels, width = self.chunk(index), len(columns)
            places = self.side.column_permutation[columns.start : columns.stop]
            for coded_row, row in enumerate(rows):
                row_levels = levels[coded_row * width : (coded_row + 1) * width]
                row_values = self._scaled(row_levels, row, columns) if is_float else row_levels
                row_place = self.side.row_permutation[row]
                for value, column_place in zip(row_values, places):
                    values[row_place * row_step + column_place * column_step] = value
        if is_float:
            return cast(values, self.frame.dtype)
        return wrap([level + entry.zero_point for level in values], self.frame.dtype)

    def _scaled(self, levels, row, columns):
        entry = self.frame.entry
        row_exponent = self.side.row_exponents[row]
        exponents = self.side.column_exponents[columns.start : columns.stop]
        scales = {exponent: scale_of(entry.scale, row_exponent + exponent) for exponent in set(exponents)}
        values = array("f", map(mul, levels, map(scales.get, exponents)))
        return inverse_transform(values, entry.matrix[2]) if entry.transform == DCT else values


class PlanesDecoder(FrameDecoder):
    def decode(self, index, cursor):
        geometry, dtype = self.frame.geometry, self.frame.dtype
        length = geometry.chunk_bytes(index)
        if self.reference is None:
            return _bytes(_read_elements(cursor, geometry, length, self.archive.budget), dtype)
        reference = _elements(self.reference_chunk(index)[:length].ljust(length, b"\0"), dtype)
        guides = _packed(reference, geometry.element_bytes)
        residuals = _read_elements(cursor, geometry, length, self.archive.budget, guides)
        return _bytes(add_differences(residuals, reference, 8 * geometry.element_bytes, dtype.rotated), dtype)

    def tensor_bytes(self):
        return b"".join(self.chunk(index) for index in range(self.frame.geometry.count))


def _read_elements(cursor, geometry, length, budget, guides=None):
    """The unsigned integers whose bytes, or whose fields of records, the planes are. `guides`: a predicted chunk's reference."""
    record_bytes = geometry.record_bytes
    records = range(0, length, record_bytes)
    interleaved = bytearray(length)
    offset = 0
    for field in geometry.fields:
        places = range(offset, offset + field)

        def guide(distance, places=places):
            padded = guides + bytes(distance)
            return bytes(padded[record + place + distance] for record in records for place in places)

        plane = decode_plane(cursor, field * len(records), budget, guide if guides is not None else None)
        for byte, place in enumerate(places):
            interleaved[place::record_bytes] = plane[byte::field]
        offset += field
    cursor.end()
    return _unpacked(interleaved, geometry.element_bytes)


def _unpacked(data, size):
    return struct.unpack(f"<{len(data) // size}{UNSIGNED[size]}", data)


def _packed(elements, size):
    return struct.pack(f"<{len(elements)}{UNSIGNED[size]}", *elements)


def _elements(data, dtype):
    """Unsigned integers, whose sign comes last if they are floats."""
    elements = _unpacked(data, dtype.element_bytes)
    if not dtype.rotated:
        return elements
    mask, top = (1 << dtype.bits) - 1, dtype.bits - 1
    return [(bits << 1 & mask) | bits >> top for bits in elements]


def _bytes(elements, dtype):
    if dtype.rotated:
        top = dtype.bits - 1
        elements = [u >> 1 | (u & 1) << top for u in elements]
    return _packed(elements, dtype.element_bytes)
