"""A frame's side arrays (section 5.1): what its rows, columns and taps have of their own."""

from checks import SCALE_MAX, SCALE_MIN, side_entries
from errors import Invalid
from planes import decode_plane
from reading import signed
from stages import read_permutation
from values import scale_of

ROWS, COLUMNS, TAPS = range(3)


class Side:
    """All arrays of a frame; zeros, and identities, where it has none."""

    def __init__(self, entry, cursor, budget):
        rows, columns, taps = entry.matrix
        lens = [rows, columns, taps]
        bits = [entry.side >> bit & 1 for bit in range(9)]
        budget.spend(side_entries(entry))

        def plane(length):
            return [signed(byte, 8) for byte in decode_plane(cursor, length, budget)]

        self.classes = [plane(n) if bit else None for bit, n in zip(bits[0:3], lens)]
        self.exponents = [plane(n) if bit else None for bit, n in zip(bits[3:6], lens)]
        self.row_permutation = read_permutation(cursor, rows) if bits[6] else None
        self.column_permutation = read_permutation(cursor, columns * taps) if bits[7] else None
        self.row_gains = None
        if bits[8]:
            low, high = (decode_plane(cursor, rows, budget) for _ in range(2))
            self.row_gains = [signed(a | b << 8, 16) for a, b in zip(low, high)]
        if cursor is not None:
            cursor.end()
        self.taps = taps
        if entry.scale is not None:
            self._check_scales(entry.scale)

    def _check_scales(self, scale):
        for extreme in (min, max):
            exponent = sum(extreme(exponents) for exponents in self.exponents if exponents)
            if not SCALE_MIN <= scale_of(scale, exponent) <= SCALE_MAX:
                raise Invalid("the scale of some elements is out of range")

    def row_class(self, row):
        return _at(self.classes[ROWS], row)

    def column_class(self, column):
        """Of a column of the matrix, which is a tap of a column."""
        column, tap = divmod(column, self.taps)
        return max(-128, min(127, _at(self.classes[COLUMNS], column) + _at(self.classes[TAPS], tap)))

    def row_exponent(self, row):
        return _at(self.exponents[ROWS], row)

    def column_exponent(self, column):
        column, tap = divmod(column, self.taps)
        return _at(self.exponents[COLUMNS], column) + _at(self.exponents[TAPS], tap)

    def place_of_row(self, row):
        return self.row_permutation[row] if self.row_permutation else row

    def place_of_column(self, column):
        return self.column_permutation[column] if self.column_permutation else column


def _at(values, index):
    return values[index] if values else 0
