"""Types of elements, and how a float32 becomes one of them (sections 4 and 5.1)."""

import struct
from dataclasses import dataclass

BF16_MAX = struct.unpack("<f", bytes.fromhex("00007f7f"))[0]
F16_MAX = 65504.0


@dataclass(frozen=True)
class DType:
    name: str
    bits: int
    # How levels become values: "float", "integer", or not at all.
    levels: str = ""

    @property
    def element_bytes(self):
        """Of an element of a frame of planes: 4-bit types are taken as bytes."""
        return max(1, self.bits // 8)

    @property
    def rotated(self):
        return self.levels == "float"

    def tensor_bytes(self, elements):
        return -(-elements * self.bits // 8)

    def plane_elements(self, elements):
        return self.tensor_bytes(elements) // self.element_bytes


DTYPES = [
    DType("f32", 32, "float"),
    DType("f16", 16, "float"),
    DType("bf16", 16, "float"),
    DType("f64", 64, "float"),
    DType("i8", 8, "integer"),
    DType("u8", 8, "integer"),
    DType("i16", 16, "integer"),
    DType("u16", 16, "integer"),
    DType("i32", 32),
    DType("u32", 32),
    DType("i64", 64),
    DType("u64", 64),
    DType("bool", 8, "integer"),
    DType("f8_e4m3", 8),
    DType("f8_e5m2", 8),
    DType("i4", 4),
    DType("u4", 4),
]


def cast(values, dtype):
    """The bytes of float32 values: nearest, ties to even, and the largest finite value for what is beyond it."""
    count = len(values)
    if dtype.name == "f32":
        return struct.pack(f"<{count}f", *values)
    if dtype.name == "f64":
        return struct.pack(f"<{count}d", *values)
    largest = F16_MAX if dtype.name == "f16" else BF16_MAX
    clamped = [max(-largest, min(value, largest)) for value in values]
    if dtype.name == "f16":
        return struct.pack(f"<{count}e", *clamped)
    bits = struct.unpack(f"<{count}I", struct.pack(f"<{count}f", *clamped))
    return struct.pack(f"<{count}H", *((u + 0x7FFF + (u >> 16 & 1)) >> 16 for u in bits))


def wrap(levels, dtype):
    """The bytes of integers: their low bits."""
    width = dtype.bits // 8
    mask = (1 << dtype.bits) - 1
    return b"".join((level & mask).to_bytes(width, "little") for level in levels)
