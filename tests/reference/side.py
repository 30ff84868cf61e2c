"""A frame's side arrays (section 5.1): what its rows, columns and taps have of their own."""

from checks import SCALE_MAX, SCALE_MIN
from errors import Invalid
from planes import decode_plane
from reading import signed
from stages import read_permutation
from values import scale_of


class Side:
    """All arrays of a frame; zeros, and identities, where it has none. Columns here are those of the matrix, taps included."""

    def __init__(self, entry, cursor, budget):
        rows, columns, taps = entry.matrix
        stored = [entry.side >> bit & 1 for bit in range(9)]
        budget.spend(rows + columns * taps)

        def plane(length, is_stored):
            if not is_stored:
                return [0] * length
            return [signed(byte, 8) for byte in decode_plane(cursor, length, budget)]

        row_class, column_class, tap_class = map(plane, entry.matrix, stored[0:3])
        exponents = [plane(*array) for array in zip(entry.matrix, stored[3:6])]
        self.row_permutation = read_permutation(cursor, rows) if stored[6] else range(rows)
        self.column_permutation = read_permutation(cursor, columns * taps) if stored[7] else range(columns * taps)
        self.gains = [entry.gain] * rows
        if stored[8]:
            low, high = (decode_plane(cursor, rows, budget) for _ in range(2))
            self.gains = [signed(a | b << 8, 16) for a, b in zip(low, high)]
        if cursor is not None:
            cursor.end()
        if entry.scale is not None:
            _check_scales(entry.scale, exponents)
        self.row_classes = row_class
        self.column_classes = [max(-128, min(127, c + t)) for c in column_class for t in tap_class]
        self.row_exponents, column_exponent, tap_exponent = exponents
        self.column_exponents = [c + t for c in column_exponent for t in tap_exponent]


def _check_scales(scale, exponents):
    for extreme in (min, max):
        if not SCALE_MIN <= scale_of(scale, sum(map(extreme, exponents))) <= SCALE_MAX:
            raise Invalid("the scale of some elements is out of range")
