"""Patches classes of TorchServe's jar: writes copies with a few bytes replaced, to precede the jar on the class path.

TorchServe is archived: 0.12.0 is the last version, so its classes do not change any more.
"""

import hashlib
import struct
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ProjectError


class UnknownClassError(ProjectError):
    """The class is not the one that the patch is for: the jar is of another version of TorchServe."""


@dataclass(frozen=True)
class ClassPatch:
    """A patch of one class.

    Attributes:
        name: The class file's path in the jar.
        sha256: The SHA-256 of the unpatched class file.
        changes: Bytes to replace, each found once, and their replacements.
    """

    name: str
    sha256: str
    changes: Mapping[bytes, bytes]


def write_patched(jar: Path, folder: Path, patches: Iterable[ClassPatch]) -> None:
    """Write the patched classes below a folder.

    Args:
        jar: TorchServe's jar.
        folder: The folder for the class path; created if missing.
        patches: The patches.

    Raises:
        UnknownClassError: A class has another SHA-256.
    """
    with zipfile.ZipFile(jar) as archive:  # opened once: it has 25,000 members
        for patch in patches:
            content = archive.read(patch.name)
            if hashlib.sha256(content).hexdigest() != patch.sha256:
                raise UnknownClassError(
                    f"{jar} is not of TorchServe 0.12.0: install the version in serving/requirements.txt"
                )
            for old, new in patch.changes.items():
                content = content.replace(old, new)
            path = folder / patch.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def constant(text: str) -> bytes:
    """A string in a class file's constant pool. Its length may change: class files refer to constants by number."""
    return struct.pack(">BH", 1, len(text)) + text.encode()
