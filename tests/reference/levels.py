"""A chunk of levels (sections 5.1, 5.2, 5.5 and 7.1): symbols, low bits and escapes, and what they are predicted from."""

from checks import TRELLIS
from entropy import STATE_MIN, Lanes, next_word
from errors import Invalid
from reading import Bits
from stages import TRELLIS_NEXT, trellis_level

LEVEL_END = 1 << 24


def decode_levels(cursor, entry, tables, side, rows, columns):
    """The levels of a chunk's rectangle, row by row, before prediction."""
    decode_lanes = _trellis_levels if entry.quantizer == TRELLIS else _symbols
    levels = decode_lanes(Lanes(cursor), tables, side, rows, columns)
    if entry.low_bits:
        bits = Bits(cursor)
        levels = [symbol << entry.low_bits | bits.take(entry.low_bits) for symbol in levels]
        bits.end()
    _read_escapes(cursor, levels)
    cursor.end()
    return levels


def _choices(tables, side, rows, column):
    """The table of each row in a column of the matrix."""
    last = len(tables) - 1
    if last == 0:
        return tables * len(rows)
    column_class = side.column_classes[column]
    return [tables[max(0, min(last, side.row_classes[row] + column_class))] for row in rows]


def _symbols(lanes, tables, side, rows, columns):
    width = len(columns)
    symbols = [0] * (len(rows) * width)

    def decode_column(column, state, words):
        place = column
        for table in _choices(tables, side, rows, columns[column]):
            slot = state & 4095
            symbols[place] = table.symbols[slot]
            state = table.frequencies[slot] * (state >> 12) + slot - table.cumulatives[slot]
            if state < STATE_MIN:
                state = next_word(state, words)
            place += width
        return state

    lanes.decode(width, decode_column)
    return symbols


def _trellis_levels(lanes, tables, side, rows, columns):
    width = len(columns)
    levels = [0] * (len(rows) * width)
    half = len(tables) // 2

    def decode_column(column, state, words):
        place, trellis = column, 0
        choices = [_choices(part, side, rows, columns[column]) for part in (tables[:half], tables[half:])]
        for pair in zip(*choices):
            table = pair[trellis & 1]
            slot = state & 4095
            symbol = table.symbols[slot]
            state = table.frequencies[slot] * (state >> 12) + slot - table.cumulatives[slot]
            if state < STATE_MIN:
                state = next_word(state, words)
            levels[place] = trellis_level(symbol, trellis)
            trellis = TRELLIS_NEXT[trellis][symbol & 1]
            place += width
        return state

    lanes.decode(width, decode_column)
    return levels


def _read_escapes(cursor, levels):
    position = -1
    for _ in range(cursor.varint()):
        position += cursor.varint() + 1
        if position >= len(levels):
            raise Invalid("an escape lies outside of its chunk")
        levels[position] = cursor.zigzag()


def check_levels(levels, what):
    if levels and not (max(levels) < LEVEL_END and min(levels) > -LEVEL_END):
        raise Invalid(f"a {what} is out of range")
