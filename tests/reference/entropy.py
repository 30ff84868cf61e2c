"""Entropy models and the lanes that they decode (section 7)."""

import struct

from errors import Invalid
from reading import Bits, signed, unzigzag

PRECISION = 12
TOTAL = 1 << PRECISION
STATE_MIN = 1 << 16
MAX_LANES_LOG2 = 8
COARSE_STEPS = 44


class Table:
    """A symbol, its frequency, and its cumulative frequency for each slot."""

    def __init__(self, first, frequencies):
        self.symbols, self.frequencies, self.cumulatives = [], [], []
        cumulative = 0
        for symbol, frequency in enumerate(frequencies, first):
            self.symbols += [symbol] * frequency
            self.frequencies += [frequency] * frequency
            self.cumulatives += [cumulative] * frequency
            cumulative += frequency


def read_table(cursor, is_signed):
    first, last = (signed(cursor.uint(1), 8) if is_signed else cursor.uint(1) for _ in range(2))
    if first == last:
        raise Invalid("a table of one symbol")
    if first > last:
        first, last = last, first
        frequencies = _coarse_frequencies(cursor, last - first + 1)
    else:
        frequencies = [cursor.varint() for _ in range(last - first + 1)]
        if sum(frequencies) != TOTAL:
            raise Invalid("the frequencies of a table do not sum to 4096")
    if frequencies[0] == 0 or frequencies[-1] == 0:
        raise Invalid("a table begins or ends with a frequency of 0")
    return Table(first, frequencies)


def _coarse_frequencies(cursor, count):
    bits = Bits(cursor)
    step, frequencies = 0, []
    for _ in range(count):
        ones = 0
        while bits.take(1):
            ones += 1
        step += unzigzag(2 * ones + bits.take(1))
        if not 0 <= step < COARSE_STEPS:
            raise Invalid("a step of a coarse table")
        frequencies.append(step if step < 4 else (4 + step % 4) << (step // 4 - 1))
    bits.end()
    lacking = TOTAL - sum(frequencies)
    if lacking < 0:
        raise Invalid("the frequencies of a coarse table sum to more than 4096")
    frequencies[frequencies.index(max(frequencies))] += lacking
    return frequencies


class Lanes:
    """The streams of a chunk. `decode` takes them one after another, as each depends on nothing but itself."""

    def __init__(self, cursor):
        lanes_log2 = cursor.uint(1)
        if lanes_log2 > MAX_LANES_LOG2:
            raise Invalid("more than 256 lanes")
        count = 1 << lanes_log2
        word_lens = [cursor.uint(2) for _ in range(count)]
        self.words = [_words(cursor, word_len) for word_len in word_lens]
        self.states = [cursor.uint(4) for _ in range(count)]
        if min(self.states) < STATE_MIN:
            raise Invalid("the first state of a lane is below 65536")

    def decode(self, width, decode_column):
        """`decode_column(column, state, words)` returns the state after that column of the chunk."""
        for lane, state in enumerate(self.states):
            words = iter(self.words[lane])
            for column in range(lane, width, len(self.states)):
                state = decode_column(column, state, words)
            if state != STATE_MIN or next(words, None) is not None:
                raise Invalid("a lane does not end where it began")


def _words(cursor, word_len):
    data = cursor.take(2 * word_len)
    return struct.unpack(f"<{word_len}H", data)


def next_word(state, words):
    """The state with another word. A lane that has none is invalid."""
    try:
        return state << 16 | next(words)
    except StopIteration:
        raise Invalid("a lane ends early") from None
