"""Planes without tables: eight decisions a byte, whose chances follow from the bytes before (sections 6.2 and 6.3)."""

from entropy import STATE_MIN
from errors import Invalid

RATES = [65536 // (2 * count + 3) for count in range(8 * 255 + 1)]
HALF = 1 << 15


def decode_adaptive(cursor, length, guide):
    limit, distance, context_bits = (cursor.uint(1) for _ in range(3))
    if limit == 0 or (distance == 0 and guide is None) or context_bits > 8:
        raise Invalid("the numbers of an adaptive plane")
    decoder = _Decoder(cursor, limit)
    plane = bytearray(length)
    guides = guide(distance) if guide else None
    trees = {}
    for place in range(length):
        if guides is not None:
            context = guides[place]
        else:
            context = plane[place - distance] if place >= distance else 0
        number = context >> (8 - context_bits)
        tree = trees.get(number)
        if tree is None:
            tree = trees[number] = [[HALF, HALF, 0] for _ in range(256)]
        plane[place] = decoder.byte(tree)
    if decoder.state != STATE_MIN:
        raise Invalid("an adaptive plane does not end where it began")
    return bytes(plane)


class _Decoder:
    def __init__(self, cursor, limit):
        self.cursor = cursor
        self.limit = limit
        self.state = cursor.uint(4)
        if self.state < STATE_MIN:
            raise Invalid("the first state of an adaptive plane is below 65536")

    def byte(self, tree):
        node = 1
        while node < 256:
            node = 2 * node + self.decide(tree[node])
        return node - 256

    def decide(self, node):
        fast, slow, count = node
        chance = max(1, (fast + slow) >> 5)
        slot = self.state & 4095
        if slot < chance:
            bit, target = 1, 65535
            state = chance * (self.state >> 12) + slot
        else:
            bit, target = 0, 0
            state = (4096 - chance) * (self.state >> 12) + slot - chance
        self.state = state if state >= STATE_MIN else state << 16 | self.cursor.uint(2)
        node[0] = fast + ((target - fast) * RATES[min(count, self.limit)] >> 15)
        node[1] = slow + ((target - slow) * RATES[count] >> 15)
        node[2] = min(count + 1, 8 * self.limit)
        return bit
