"""Planes: strings of bytes, each stored in one of six modes (section 6)."""

from adaptive import decode_adaptive
from entropy import STATE_MIN, Lanes, next_word, read_table
from errors import Invalid, Unsupported

RAW, CONSTANT, RANS, COPIES, ADAPTIVE, GUIDED = range(6)
COPY_MIN = 4
# Bytes of a plane for which each kind of varint of its copies may take one byte more.
VARINT_SLACK = 128


def decode_plane(cursor, length, budget, guide=None, in_copies=False):
    """A plane of `length` bytes. `guide(distance)` gives the bytes that choose the trees of a guided one."""
    mode = cursor.uint(1)
    if mode > GUIDED:
        raise Unsupported(f"plane mode {mode}")
    if in_copies and mode in (COPIES, GUIDED):
        raise Invalid(f"a plane of mode {mode} inside of copies")
    if mode == GUIDED and guide is None:
        raise Invalid("a guided plane outside of predicted frames of planes")
    budget.spend(length)
    if mode == RAW:
        return bytes(cursor.take(length))
    if mode == CONSTANT:
        return bytes(cursor.take(1)) * length
    if mode == RANS:
        return _decode_rans(cursor, length)
    if mode == COPIES:
        return _decode_copies(cursor, length, budget)
    return decode_adaptive(cursor, length, guide if mode == GUIDED else None)


def _decode_rans(cursor, length):
    table = read_table(cursor, is_signed=False)
    symbols, frequencies, cumulatives = table.symbols, table.frequencies, table.cumulatives
    plane = bytearray(length)

    def decode_column(column, state, words):
        slot = state & 4095
        plane[column] = symbols[slot]
        state = frequencies[slot] * (state >> 12) + slot - cumulatives[slot]
        return state if state >= STATE_MIN else next_word(state, words)

    Lanes(cursor).decode(length, decode_column)
    return bytes(plane)


def _decode_copies(cursor, length, budget):
    literal_len, sequence_len, *varint_bytes = (cursor.varint() for _ in range(4))
    if literal_len + COPY_MIN * sequence_len > length:
        raise Invalid("more literals and sequences than a plane has bytes")
    if not all(sequence_len <= count <= sequence_len + length // VARINT_SLACK for count in varint_bytes):
        raise Invalid("the varints of a plane of copies")
    lens = [literal_len, *varint_bytes, sequence_len, sequence_len, sequence_len]
    planes = [decode_plane(cursor, count, budget, in_copies=True) for count in lens]
    literals, literal_lens, copy_lens = (type(cursor)(plane) for plane in planes[:3])
    plane = bytearray()
    for low, middle, high in zip(*planes[3:]):
        plane += literals.take(literal_lens.varint())
        _copy(plane, 1 + (low | middle << 8 | high << 16), COPY_MIN + copy_lens.varint(), length)
    plane += literals.take(literal_len - literals.at)
    for part in (literals, literal_lens, copy_lens):
        part.end()
    if len(plane) != length:
        raise Invalid("sequences and literals do not make up their plane")
    return bytes(plane)


def _copy(plane, distance, count, length):
    if distance > len(plane):
        raise Invalid("a copy reaches before its plane")
    if count > length - len(plane):
        raise Invalid("a copy ends after its plane")
    start = len(plane) - distance
    for place in range(start, start + count):
        plane.append(plane[place])
