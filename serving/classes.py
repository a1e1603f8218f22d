"""Writes a class of TorchServe's jar anew with a few bytes changed, to stand before the jar on Java's class path.

TorchServe is archived: 0.12.0 is its last version, so its classes do not change any more.
"""

import hashlib
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path


class UnknownClassError(Exception):
    """The jar is of another TorchServe than the one that the changes are written for."""


def write_changed(jar: Path, folder: Path, name: str, sha256: str, changes: Mapping[bytes, bytes]) -> None:
    """Write the class, each old piece replaced by its new one; UnknownClassError unless it has this SHA-256."""
    with zipfile.ZipFile(jar) as archive:
        content = archive.read(name)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UnknownClassError(f"{jar} is not of TorchServe 0.12.0: install the version in serving/requirements.txt")
    for old, new in changes.items():
        content = content.replace(old, new)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def constant(text: str) -> bytes:
    """A class file's constant that holds a text: nothing else in the file says where a constant stands."""
    return struct.pack(">BH", 1, len(text)) + text.encode()
