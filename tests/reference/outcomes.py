#!/usr/bin/env python3
"""What becomes of many archives, in one process.

    find … | python3 tests/reference/outcomes.py

Each line of the input names an archive, and its bases after tabs; each line of the output is JSON: `code` ("ok", or that of the
error), `message`, and `files`, the first 128 bits of the SHA-256 of each.
"""

import hashlib
import json
import sys
from pathlib import Path

from decode import decode
from errors import McwcError


def outcome(archive, bases=()):
    try:
        files = decode(archive, bases)
    except McwcError as error:
        return {"code": error.code, "message": str(error), "files": {}}
    hashes = {name: hashlib.sha256(content).hexdigest()[:32] for name, content in files.items()}
    return {"code": "ok", "message": "", "files": hashes}


def main():
    for line in sys.stdin:
        archive, *bases = (Path(path).read_bytes() for path in line.rstrip("\n").split("\t"))
        print(json.dumps(outcome(archive, bases)), flush=True)


if __name__ == "__main__":
    main()
