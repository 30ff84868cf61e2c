"""Writes archives field by field, so that vectors can hold what no encoder chooses. What it writes, `decode` reads."""

import hashlib
import struct

from cbor import Float
from dtypes import DTYPES
from entropy import PRECISION, STATE_MIN
from header import UINT_MAX
from reading import zigzag
from stages import GROUP_MAX, TRELLIS_NEXT

NAMES = [dtype.name for dtype in DTYPES]


def cbor(item):
    if isinstance(item, Float):
        return b"\xfa" + struct.pack(">f", item)
    if isinstance(item, int):
        return _head(0, item) if item >= 0 else _head(1, -1 - item)
    if isinstance(item, bytes):
        return _head(2, len(item)) + item
    if isinstance(item, str):
        return _head(3, len(item.encode())) + item.encode()
    if isinstance(item, dict):
        return _head(5, len(item)) + b"".join(cbor(part) for entry in item.items() for part in entry)
    return _head(4, len(item)) + b"".join(map(cbor, item))


def _head(major, argument):
    assert argument <= UINT_MAX
    if argument < 24:
        return bytes([major << 5 | argument])
    size = next(size for size in range(4) if argument < 1 << (8 << size))
    return bytes([major << 5 | 24 + size]) + argument.to_bytes(1 << size, "big")


def varint(value):
    written = b""
    while value >= 128:
        written += bytes([value & 127 | 128])
        value >>= 7
    return written + bytes([value])


def bits(values):
    """(value, width) each."""
    window = place = 0
    for value, width in values:
        window |= value << place
        place += width
    return window.to_bytes((place + 7) // 8, "little")


class Table:
    """Of the symbols from `first` on, with these frequencies; or with these steps, in the coarse form."""

    def __init__(self, first, frequencies=None, steps=None):
        last = first + len(steps or frequencies) - 1
        if steps:
            changes = [zigzag(step - before, 32) for before, step in zip([0, *steps], steps)]
            ones = [bit for z in changes for bit in [(1, 1)] * (z >> 1) + [(0, 1), (z & 1, 1)]]
            self.stored = bytes([last & 255, first & 255]) + bits(ones)
            frequencies = [step if step < 4 else (4 + step % 4) << (step // 4 - 1) for step in steps]
            frequencies[frequencies.index(max(frequencies))] += 4096 - sum(frequencies)
        else:
            self.stored = bytes([first & 255, last & 255]) + b"".join(map(varint, frequencies))
        assert sum(frequencies) == 4096
        self.intervals = {}
        cumulative = 0
        for symbol, frequency in enumerate(frequencies, first):
            self.intervals[symbol] = (frequency, cumulative)
            cumulative += frequency


def ans(intervals):
    """First state and words, in reading order, of what decodes to these intervals of 4096 slots."""
    state, words = STATE_MIN, []
    for frequency, cumulative in reversed(intervals):
        if state >= frequency << (32 - PRECISION):
            words.append(state & 0xFFFF)
            state >>= 16
        state = (state // frequency) << PRECISION | (state % frequency + cumulative)
    return state, words[::-1]


def lanes(columns, lanes_log2):
    """Of the intervals of every column of a chunk."""
    count = 1 << lanes_log2
    coded = [ans([interval for column in columns[lane::count] for interval in column]) for lane in range(count)]
    lens = b"".join(struct.pack("<H", len(words)) for _, words in coded)
    words = b"".join(struct.pack(f"<{len(words)}H", *words) for _, words in coded)
    return bytes([lanes_log2]) + lens + words + b"".join(struct.pack("<I", state) for state, _ in coded)


def raw(plane):
    return b"\0" + plane


def constant(plane):
    assert len(set(plane)) == 1
    return b"\1" + plane[:1]


def rans(plane, table, lanes_log2=0):
    return b"\2" + table.stored + lanes([[table.intervals[byte]] for byte in plane], lanes_log2)


def copies(sequences, rest, write=(raw,) * 6):
    """Sequences are literals, distance and length."""
    literals = b"".join(literal for literal, _, _ in sequences) + rest
    literal_lens = b"".join(varint(len(literal)) for literal, _, _ in sequences)
    copy_lens = b"".join(varint(length - 4) for _, _, length in sequences)
    distances = [bytes((distance - 1) >> shift & 255 for _, distance, _ in sequences) for shift in (0, 8, 16)]
    lens = [len(literals), len(sequences), len(literal_lens), len(copy_lens)]
    planes = [literals, literal_lens, copy_lens, *distances]
    return b"\3" + b"".join(map(varint, lens)) + b"".join(write(plane) for write, plane in zip(write, planes))


def adaptive(plane, limit, distance, context_bits):
    return b"\4" + _decisions(plane, bytes(distance) + plane, limit, distance, context_bits)


def guided(plane, limit, distance, context_bits, guides):
    """`guides` are the bytes that choose the trees."""
    return b"\5" + _decisions(plane, guides, limit, distance, context_bits)


def _decisions(plane, guides, limit, distance, context_bits):
    nodes, intervals = {}, []
    for byte, guide in zip(plane, guides):
        prefix = 1
        for place in range(7, -1, -1):
            bit = byte >> place & 1
            node = nodes.setdefault((guide >> (8 - context_bits), prefix), [1 << 15, 1 << 15, 0])
            intervals.append(_decide(node, bit, limit))
            prefix = 2 * prefix + bit
    state, words = ans(intervals)
    return struct.pack(f"<3BI{len(words)}H", limit, distance, context_bits, state, *words)


def _decide(node, bit, limit):
    fast, slow, count = node
    chance = max(1, (fast + slow) >> 5)
    target = 65535 * bit
    node[0] += (target - fast) * (65536 // (2 * min(count, limit) + 3)) >> 15
    node[1] += (target - slow) * (65536 // (2 * count + 3)) >> 15
    node[2] = min(count + 1, 8 * limit)
    return (chance, 0) if bit else (4096 - chance, chance)


def permutation(places):
    """Its Lehmer code, in groups."""
    left, groups, value, product = sorted(places), [], 0, 1
    for place in places:
        base, digit = len(left), left.index(place)
        left.remove(place)
        if product * base >= GROUP_MAX:
            groups.append((value, (product - 1).bit_length()))
            value, product = 0, 1
        value += digit * product
        product *= base
    return bits([*groups, (value, (product - 1).bit_length())])


def levels_chunk(symbols, choose, lanes_log2=0, low=b"", escapes=()):
    """Rows of symbols; `choose(row, column, quantizer)` is a table. Escapes are (position, level), ascending."""
    columns = []
    for column in range(len(symbols[0])):
        state, intervals = 0, []
        for row, row_symbols in enumerate(symbols):
            symbol = row_symbols[column]
            intervals.append(choose(row, column, state & 1).intervals[symbol])
            state = TRELLIS_NEXT[state][symbol & 1]
        columns.append(intervals)
    payload = lanes(columns, lanes_log2) + low + varint(len(escapes))
    previous = -1
    for position, level in escapes:
        payload += varint(position - previous - 1) + varint(zigzag(level, 32))
        previous = position
    return payload


def assemble(header, chunks, code=None):
    """An archive of any header, whose chunk table and hashes are made here. `code` writes the header as a plane."""
    entries = [struct.pack("<I", len(chunk)) + hashlib.sha256(chunk).digest()[:16] for chunk in chunks]
    stored = cbor(dict(sorted((header | {4: b"".join(entries)}).items())))
    if code:
        stored = struct.pack("<I", len(stored)) + code(stored)
    preamble = bytes.fromhex("8D4D4357430D0A1A") + struct.pack("<HHI", 1, int(code is not None), len(stored))
    integrity = hashlib.sha256(preamble + stored).digest()[:16]
    return preamble + integrity + stored + b"".join(chunks)


class Composer:
    """An archive on its way: chunks, tables and entries in the order in which they are added."""

    def __init__(self):
        self.chunks, self.tables, self.files, self.tensors, self.frames = [], [], [], [], []

    def add_chunks(self, *payloads):
        self.chunks += payloads
        return len(self.chunks) - len(payloads)

    def add_tables(self, *tables):
        self.tables += tables
        return [len(self.tables) - len(tables), len(tables)]

    def add_frame(self, coding, chunk_len, payloads, **fields):
        """Fields by the names of their keys. Gives the frame's index."""
        keys = ["matrix", "tables", "scale", "zero_point", "low_bits", "side", "reference", "gain"]
        keys += ["quantizer", "transform", "layout", "record"]
        entry = {0: coding, 1: self.add_chunks(*payloads), 2: chunk_len}
        self.frames.append(entry | {key: fields[name] for key, name in enumerate(keys, 3) if name in fields})
        return len(self.frames) - 1

    def add_tensor(self, name, dtype, shape, offset, frames=None):
        entry = {0: name, 1: NAMES.index(dtype), 2: shape, 3: len(self.files), 4: offset}
        self.tensors.append(entry | ({5: frames} if frames else {}))

    def add_file(self, name, byte_len, *raw_chunks):
        """Of the tensors that have been added since the last one."""
        self.files.append({0: name, 1: byte_len, 2: self.add_chunks(*raw_chunks)})

    def finish(self, code=None, base=None, metadata=None):
        tables = b"".join(table.stored for table in self.tables)
        header = {0: self.files, 1: self.tensors, 2: self.frames, 3: tables}
        header |= ({5: base} if base else {}) | ({6: metadata} if metadata else {})
        return assemble(header, self.chunks, code)
