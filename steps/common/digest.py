"""Digests of JSON values and of files: reads files, writes nothing."""

import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_LENGTH = 16  # hexadecimal digits, 64 bits


def digest(value: Any) -> str:
    """Digest of a JSON value, in hexadecimal; the order of keys does not count."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
