"""Bytes in order, and the integers in them (section 2)."""

from errors import Invalid

VARINT_BYTES = 5


class Cursor:
    """Reads a payload from its start. All of it is there, so that an early end is a broken rule."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        end = self.at + count
        if end > len(self.data):
            raise Invalid(f"{count} bytes at {self.at} end after the {len(self.data)} of their payload")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def uint(self, byte_len):
        return int.from_bytes(self.take(byte_len), "little")

    def varint(self):
        value = 0
        for place in range(VARINT_BYTES):
            byte = self.uint(1)
            value |= (byte & 127) << (7 * place)
            if byte < 128:
                if byte == 0 and place > 0:
                    raise Invalid("a varint is not of its shortest form")
                if value >= 1 << 32:
                    raise Invalid("a varint takes more than 32 bits")
                return value
        raise Invalid("a varint takes more than 5 bytes")

    def zigzag(self):
        return unzigzag(self.varint())

    def end(self):
        if self.at != len(self.data):
            raise Invalid(f"{len(self.data) - self.at} bytes follow the end of a payload")


class Bits:
    """Unsigned integers of any number of bits from a cursor, least significant first."""

    def __init__(self, cursor):
        self.cursor = cursor
        self.window = 0
        self.window_bits = 0

    def take(self, width):
        while self.window_bits < width:
            self.window |= self.cursor.uint(1) << self.window_bits
            self.window_bits += 8
        value = self.window & ((1 << width) - 1)
        self.window >>= width
        self.window_bits -= width
        return value

    def end(self):
        """What is left of the last byte are zeros."""
        if self.window:
            raise Invalid("padding is not zero")


def unzigzag(value):
    return (value >> 1) ^ -(value & 1)


def zigzag(value, bits):
    """Of a number in two's complement of so many bits."""
    return ((value << 1) ^ (value >> (bits - 1))) & ((1 << bits) - 1)


def signed(value, bits):
    """The number whose two's complement of so many bits these are."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value
