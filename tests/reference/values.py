"""Scales: powers of two in steps of a sixteenth (section 5.1, annex A)."""

import math
import struct
from functools import lru_cache

ROOTS = struct.unpack(
    ">16f",
    bytes.fromhex(
        "3f800000 3f85aac3 3f8b95c2 3f91c3d3 3f9837f0 3f9ef532 3fa5fed7 3fad583f"
        "3fb504f3 3fbd08a4 3fc5672a 3fce248c 3fd744fd 3fe0ccdf 3feac0c7 3ff5257d"
    ),
)


@lru_cache(maxsize=1 << 16)
def scale_of(scale, exponent):
    """S(e). Only the product rounds; a power of two beyond double precision's range is out of the format's anyway."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", scale * ROOTS[exponent % 16]))
    return math.ldexp(rounded, exponent // 16)
