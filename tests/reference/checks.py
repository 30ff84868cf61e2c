"""What a header promises of every frame, checked before any chunk is read (sections 4 and 5)."""

from itertools import accumulate
from operator import mul

import limits
from dtypes import DTYPES
from errors import Invalid, Unsupported
from geometry import LevelsGeometry, PlanesGeometry
from header import UINT_MAX

PIECE_BYTES = 1 << 20
PLANES, LEVELS = range(2)
SIDE_BITS = 9
TAP_BITS = 0b000_100_100
ROW_PERMUTATION, COLUMN_PERMUTATION, ROW_GAIN = 1 << 6, 1 << 7, 1 << 8
TRELLIS = DCT = COLUMN_MAJOR = 1
GAIN, GAIN_ONE = 10, 256
SCALE_MIN, SCALE_MAX = 2.0**-100, 2.0**100
# Fields of levels that have no default.
REQUIRED_KEYS = {3, 4, 5}


class FrameInfo:
    """A frame, what its tensors say of it, and where its chunks lie."""

    def __init__(self, entry, chunk_count, table_count):
        self.entry = entry
        self.chunk_count = chunk_count
        self.dtype = None
        self.elements = None
        self.geometry = None
        self.steps = 0
        self.decoder = None
        for value, most, what in (
            (entry.coding, LEVELS, "coding"),
            (entry.quantizer, TRELLIS, "quantizer"),
            (entry.transform, DCT, "transform"),
            (entry.layout, COLUMN_MAJOR, "layout"),
        ):
            if value > most:
                raise Unsupported(f"{what} {value}")
        if entry.chunk_len == 0:
            raise Invalid("chunk_len is 0")
        limits.within(entry.chunk_len, limits.MAX_CHUNK_LEN, "chunk_len")
        if entry.reference is None and GAIN in entry.keys:
            raise Invalid("gain without a reference")
        if entry.coding == LEVELS:
            _check_levels(entry, table_count)
            self._set_geometry(LevelsGeometry(entry))
        else:
            _check_planes(entry)

    @property
    def is_levels(self):
        return self.entry.coding == LEVELS

    @property
    def first_element_chunk(self):
        return self.entry.first_chunk + (self.entry.side != 0)

    def _set_geometry(self, geometry):
        self.geometry = geometry
        if self.first_element_chunk + geometry.count > self.chunk_count:
            raise Invalid("a frame has chunks that its archive does not have")

    def name(self, dtype, tensor_elements):
        """Says that a tensor has this frame."""
        elements = dtype.plane_elements(tensor_elements)
        if self.dtype is not None:
            if (self.dtype, self.elements) != (dtype, elements):
                raise Invalid("tensors of another dtype or size share a frame")
            return
        self.dtype, self.elements = dtype, elements
        if self.is_levels:
            _check_values(self.entry, dtype)
            if self.geometry.elements != elements:
                raise Invalid("a matrix has another number of elements than its tensor")
        else:
            self._set_geometry(PlanesGeometry(self.entry, dtype.element_bytes, elements))

    def check_reference(self, reference):
        mine, other = self.entry, reference.entry
        same = mine.coding == other.coding and mine.chunk_len == other.chunk_len
        if self.is_levels:
            same = same and mine.matrix[1:] == other.matrix[1:] and mine.layout == other.layout
        else:
            same = same and self.dtype == reference.dtype and mine.record == other.record
        if not same:
            raise Invalid("a frame and its reference are not coded alike")


def _check_planes(entry):
    others = [entry.zero_point, entry.low_bits, entry.side, entry.quantizer, entry.transform, entry.layout]
    if REQUIRED_KEYS & entry.keys or any(others) or entry.gain != GAIN_ONE:
        raise Invalid("a field of levels in a frame of planes")
    if entry.record is not None:
        limits.within(len(entry.record), limits.MAX_FIELDS, "fields of a record")
        if 0 in entry.record:
            raise Invalid("a field of a record has no bytes")
        if entry.chunk_len % sum(entry.record):
            raise Invalid("chunk_len is no whole number of records")


def _check_levels(entry, table_count):
    if entry.matrix is None or entry.tables is None:
        raise Invalid("a frame of levels without its matrix or tables")
    if entry.record is not None:
        raise Invalid("a frame of levels with a record")
    rows, columns, taps = entry.matrix
    if 0 in entry.matrix:
        raise Invalid("a matrix of no elements")
    limits.within(rows, limits.MAX_EXTENT, "rows")
    limits.within(columns * taps, limits.MAX_EXTENT, "columns and taps")
    first, count = entry.tables
    trellis = entry.quantizer == TRELLIS
    limits.within(count, limits.MAX_TRELLIS_TABLES if trellis else limits.MAX_FRAME_TABLES, "tables of a frame")
    if count == 0 or (trellis and count % 2) or first + count > table_count:
        raise Invalid("the tables of a frame")
    if not -32768 <= entry.gain <= 32767:
        raise Invalid("gain")
    if entry.low_bits > 16:
        raise Invalid("low_bits is above 16")
    if entry.scale is not None:
        if not SCALE_MIN <= entry.scale <= SCALE_MAX:
            raise Invalid("scale is out of range")
        if entry.zero_point != 0:
            raise Invalid("a zero_point beside a scale")
    if trellis and (entry.low_bits or entry.scale is None):
        raise Invalid("a trellis with low_bits, or without a scale")
    _check_side(entry, columns * taps)


def _check_side(entry, row_len):
    side, taps = entry.side, entry.matrix[2]
    if side >> SIDE_BITS:
        raise Unsupported(f"side arrays {side:#x}")
    whole_rows = entry.chunk_len >= row_len
    if whole_rows and entry.chunk_len % row_len:
        raise Invalid("chunk_len is no whole number of rows")
    if side & TAP_BITS and taps == 1:
        raise Invalid("arrays of taps where there is one")
    if side & (ROW_PERMUTATION | COLUMN_PERMUTATION) and not whole_rows:
        raise Invalid("a permutation where chunks are not of whole rows")
    if side & ROW_GAIN and entry.reference is None:
        raise Invalid("gains of rows without a reference")
    if entry.layout == COLUMN_MAJOR and (not whole_rows or side & ROW_PERMUTATION):
        raise Invalid("a column-major frame with a row permutation, or whose chunks are not of whole rows")
    if entry.transform == DCT:
        limits.within(taps, limits.MAX_TAPS, "taps of a transform")
        if not whole_rows or entry.scale is None or side & COLUMN_PERMUTATION:
            raise Invalid("a transform without whole rows or scale, or with a column permutation")
    limits.within(side_entries(entry), limits.SIDE_ENTRIES, "side arrays")


def side_entries(entry):
    rows, columns, taps = entry.matrix
    lens = [rows, columns, taps, rows, columns, taps, rows, columns * taps, rows]
    return sum(length for bit, length in enumerate(lens) if entry.side >> bit & 1)


def _check_values(entry, dtype):
    if dtype.levels != ("integer" if entry.scale is None else "float"):
        raise Invalid(f"levels of {dtype.name} {'without' if entry.scale is None else 'with'} a scale")


def check_header(header, chunk_count, table_count):
    """Every frame of an archive whose header keeps the rules. Those on references are checked once the base is there."""
    _check_files(header.files)
    frames = [FrameInfo(entry, chunk_count, table_count) for entry in header.frames]
    for index, frame in enumerate(frames):
        reference = frame.entry.reference
        if reference is not None and (reference[0] > 1 or (reference[0] == 0 and reference[1] >= index)):
            raise Invalid("a frame is predicted from neither an earlier one nor one of the base")
    uses_base = any(frame.entry.reference is not None and frame.entry.reference[0] == 1 for frame in frames)
    if uses_base != (header.base is not None):
        raise Invalid("base is there without a frame that refers to it, or the other way around")
    for tensor in header.tensors:
        _check_tensor(tensor, header.files, frames)
    if any(frame.dtype is None for frame in frames):
        raise Invalid("a frame that no tensor has")
    for index, file in enumerate(header.files):
        raw_bytes = sum(end - start for start, end in raw_ranges(header, index))
        if file.first_raw_chunk + -(-raw_bytes // PIECE_BYTES) > chunk_count:
            raise Invalid("a file has raw chunks that its archive does not have")
    limits.within(sum(file.bytes for file in header.files), limits.OUTPUT_BYTES, "output")
    return frames


def _check_files(files):
    limits.within(len(files), limits.MAX_FILES, "files")
    if len({file.name for file in files}) != len(files):
        raise Invalid("two files have the same name")
    for file in files:
        if not 1 <= len(file.name.encode()) <= 1024:
            raise Invalid("the length of a file's name")
        if any(part in ("", ".", "..") for part in file.name.split("/")):
            raise Invalid("a file's name is no relative path")
        if any(char in "\\:" or char < " " or "\x7f" <= char <= "\x9f" for char in file.name):
            raise Invalid("a file's name has a character that is forbidden")


def _check_tensor(tensor, files, frames):
    if tensor.dtype >= len(DTYPES):
        raise Unsupported(f"dtype {tensor.dtype}")
    if tensor.file >= len(files):
        raise Invalid("a tensor lies in a file that there is not")
    if any(product > UINT_MAX for product in accumulate(tensor.shape, mul)):
        raise Invalid("a tensor's shape")
    if tensor.end > files[tensor.file].bytes:
        raise Invalid("a tensor ends after its file")
    if tensor.frames is None:
        return
    if tensor.elements == 0:
        raise Invalid("an empty tensor has frames")
    limits.within(len(tensor.frames), limits.MAX_TENSOR_FRAMES, "frames of a tensor")
    for index in tensor.frames:
        if index >= len(frames):
            raise Invalid("a tensor has a frame that there is not")
        frames[index].name(DTYPES[tensor.dtype], tensor.elements)


def coded_tensors(header, file_index):
    """The tensors of a file that have frames."""
    return [tensor for tensor in header.tensors if tensor.file == file_index and tensor.frames is not None]


def raw_ranges(header, file_index):
    """What is left of a file between its tensors."""
    end = 0
    for tensor in coded_tensors(header, file_index):
        if tensor.offset < end:
            raise Invalid("tensors overlap, or are not listed in the order of their offsets")
        if tensor.offset > end:
            yield end, tensor.offset
        end = tensor.end
    if end < header.files[file_index].bytes:
        yield end, header.files[file_index].bytes
