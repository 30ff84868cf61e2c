"""Trellis, permutations and transform (sections 5.2 to 5.4)."""

import math
from array import array
from functools import lru_cache
from operator import add, mul

from errors import Invalid
from reading import Bits

# The states after one: of an even symbol, of an odd one.
TRELLIS_NEXT = [(0, 2), (5, 7), (1, 3), (6, 4), (2, 0), (4, 6), (3, 1), (7, 5)]
GROUP_MAX = 1 << 64


def trellis_level(symbol, state):
    """Of the quantizer that the state's lowest bit chooses."""
    quantizer = state & 1
    return 2 * symbol - quantizer * ((symbol > 0) - (symbol < 0))


def read_permutation(cursor, count):
    """`p[i]` is the place of coded row or column i in the tensor."""
    digits = []
    bits = Bits(cursor)
    while len(digits) < count:
        bases, product = [], 1
        for base in range(count - len(digits), 0, -1):
            if product * base >= GROUP_MAX:
                break
            bases.append(base)
            product *= base
        value = bits.take((product - 1).bit_length())
        if value >= product:
            raise Invalid("a group of a permutation's digits is not below its product")
        for base in bases:
            value, digit = divmod(value, base)
            digits.append(digit)
    bits.end()
    left = list(range(count))
    return [left.pop(digit) for digit in digits]


@lru_cache(maxsize=4)
def _basis(taps):
    def entry(k, t):
        return math.sqrt((1 if k == 0 else 2) / taps) * math.cos(math.pi * (2 * t + 1) * k / (2 * taps))

    return [array("f", [entry(k, t) for t in range(taps)]) for k in range(taps)]


def inverse_transform(values, taps):
    """Of every `taps` values in a row; products and sums are float32."""
    weights = array("f")
    for start in range(0, len(values), taps):
        kernel = array("f", bytes(4 * taps))
        for value, row in zip(values[start : start + taps], _basis(taps)):
            # A product with zero changes no sum.
            if value:
                products = array("f", map(mul, row, [value] * taps))
                kernel = array("f", map(add, kernel, products))
        weights += kernel
    return weights
