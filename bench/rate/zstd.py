"""Files -> the bytes that zstd -19 makes of them, each on its own.

    python zstd.py FILE...
"""
import sys
from pathlib import Path

import zstandard

if __name__ == "__main__":
    print(sum(len(zstandard.ZstdCompressor(level=19).compress(Path(file).read_bytes())) for file in sys.argv[1:]))
