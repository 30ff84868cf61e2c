"""A file -> a zstd frame at the highest level whose window browsers take, against a dictionary if there is one.

    python zstd.py FILE OUT [DICTIONARY]
"""
import sys
from pathlib import Path

import zstandard

LEVEL = 19
# Of Content-Encoding zstd (RFC 9659). With a dictionary, a window that holds the file may be as long as that (RFC 9842).
WINDOW_LOG, DICTIONARY_WINDOW_LOG = 23, 25

if __name__ == "__main__":
    source, out, *dictionaries = sys.argv[1:]
    data, known = Path(source).read_bytes(), b"".join(Path(path).read_bytes() for path in dictionaries)
    window = DICTIONARY_WINDOW_LOG if known else WINDOW_LOG
    parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, source_size=len(data), dict_size=len(known), window_log=window, enable_ldm=bool(known))
    dictionary = zstandard.ZstdCompressionDict(known, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if known else None
    Path(out).write_bytes(zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress(data))
