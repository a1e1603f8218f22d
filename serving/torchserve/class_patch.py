"""Writes classes of TorchServe's jar anew with a few bytes changed, to stand before the jar on Java's class path.

TorchServe is archived: 0.12.0 is its last version, so its classes do not change any more.
"""

import hashlib
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ProjectError


class UnknownClassError(ProjectError):
    """The jar is of another TorchServe than the one that the changes are written for."""


@dataclass(frozen=True)
class ChangedClass:
    """The place of a class in the jar, the SHA-256 of its file, and what stands there instead of what."""

    name: str
    sha256: str
    changes: Mapping[bytes, bytes]


def write_changed(jar: Path, folder: Path, classes: Iterable[ChangedClass]) -> None:
    """Write the classes below `folder`; UnknownClassError unless each has its SHA-256."""
    with zipfile.ZipFile(jar) as archive:  # opened once: it has 25,000 members
        for each in classes:
            content = archive.read(each.name)
            if hashlib.sha256(content).hexdigest() != each.sha256:
                raise UnknownClassError(
                    f"{jar} is not of TorchServe 0.12.0: install the version in serving/requirements.txt"
                )
            for old, new in each.changes.items():
                content = content.replace(old, new)
            path = folder / each.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def constant(text: str) -> bytes:
    """A class file's constant that holds a text: nothing else in the file says where a constant stands."""
    return struct.pack(">BH", 1, len(text)) + text.encode()
