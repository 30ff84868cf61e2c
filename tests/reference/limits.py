"""What this decoder accepts: the limits of the format (section 4), and less where plain Python would be slow."""

from errors import LimitExceeded

MAX_FILES = 4096
MAX_CHUNK_BYTES = 4 << 20
MAX_CHUNK_LEN = 1 << 18
MAX_TABLES = 65535
MAX_FRAME_TABLES = 64
MAX_TRELLIS_TABLES = 128
MAX_FIELDS = 64
MAX_EXTENT = (1 << 31) - 1
MAX_TENSOR_FRAMES = 16
MAX_REFERENCES = 16
MAX_TAPS = 1024

# This decoder's own.
HEADER_BYTES = 1 << 20
OUTPUT_BYTES = 64 << 20
SIDE_ENTRIES = 6 << 20
WORK = 1 << 24


def within(value, maximum, what):
    if value > maximum:
        raise LimitExceeded(f"{what}: {value} is above {maximum}")


class Budget:
    """What decoding an archive may still cost, in symbols and bytes."""

    def __init__(self):
        self.spent = 0

    def spend(self, amount):
        self.spent += amount
        within(self.spent, WORK, "work")
