"""The part of CBOR (RFC 8949) that headers use: integers, strings, arrays, maps and float32.

Maps become dictionaries, whose integer keys ascend. A float32 becomes a `Float`, so that it is not taken for an integer.
"""

import struct

from errors import Invalid

UNSIGNED, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE = range(8)
FLOAT32 = 26
# Nothing in a header lies deeper.
MAX_DEPTH = 8


class Float(float):
    pass


def parse(data):
    item, at = _item(data, 0, MAX_DEPTH)
    if at != len(data):
        raise Invalid("bytes follow the header's CBOR")
    return item


def _take(data, at, count):
    if at + count > len(data):
        raise Invalid("the header's CBOR ends early")
    return data[at : at + count], at + count


def _head(data, at):
    (first,), at = _take(data, at, 1)
    major, info = first >> 5, first & 31
    if info < 24:
        return major, info, info, at
    if info > 27:
        raise Invalid("an item of CBOR has no definite length")
    argument, at = _take(data, at, 1 << (info - 24))
    return major, info, int.from_bytes(argument, "big"), at


def _item(data, at, depth):
    if depth == 0:
        raise Invalid("the header's CBOR is too deep")
    major, info, argument, at = _head(data, at)
    if major == UNSIGNED:
        return argument, at
    if major == NEGATIVE:
        return -1 - argument, at
    if major in (BYTES, TEXT):
        string, at = _take(data, at, argument)
        return (string if major == BYTES else _text(string)), at
    if major == ARRAY:
        items = []
        for _ in range(argument):
            item, at = _item(data, at, depth - 1)
            items.append(item)
        return items, at
    if major == MAP:
        return _map(data, at, argument, depth)
    if major == SIMPLE and info == FLOAT32:
        return Float(struct.unpack(">f", data[at - 4 : at])[0]), at
    raise Invalid("an item of CBOR that no field has")


def _map(data, at, count, depth):
    entries = {}
    previous = -1
    for _ in range(count):
        key, at = _item(data, at, depth - 1)
        if type(key) is int:
            if key <= previous:
                raise Invalid("the keys of a map do not ascend")
            previous = key
        elif not isinstance(key, str):
            raise Invalid("a key of a map is neither an integer nor text")
        entries[key], at = _item(data, at, depth - 1)
    return entries, at


def _text(string):
    try:
        return string.decode("utf-8")
    except UnicodeDecodeError:
        raise Invalid("text is not UTF-8") from None
