"""Reads the pointer to the model now served, `<deploy volume>/current.json`, and holds its archive against it."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from contract.errors import InputError

_ANEW = "remove it and run make run, which writes it anew"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class PointerError(InputError):
    """The pointer names no model that can be served; the message says why, and what to do."""


@dataclass(frozen=True)
class Pointer:
    """The model now served: its name, which is in its URL, its version, and its archive."""

    name: str
    version: str
    mar: Path
    sha256: str


def read_pointer(volume: Path, version: str = "") -> Pointer:
    """The pointer on the deploy volume; PointerError if there is none or it is damaged.

    With a version, what the pointer said when that one was deployed, whichever is current.
    """
    if version and not _NAME.fullmatch(version):
        raise PointerError(f"the version is {version!r} and not letters, digits, '.', '_' and '-': see make versions")
    path = volume / "versions" / f"{version}.json" if version else volume / "current.json"
    try:
        content = json.loads(path.read_text())
        name, version, mar, sha256 = (str(content[key]) for key in ("name", "version", "mar", "sha256"))
    except FileNotFoundError as error:
        if version:
            raise PointerError(f"no version {version} was ever deployed, {path} does not exist") from error
        raise PointerError(f"nothing is deployed yet, {path} does not exist: run make run first") from error
    except OSError as error:
        raise PointerError(f"{path} cannot be read ({error.strerror}): let this user read it") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PointerError(f"{path} is damaged ({error!r}): {_ANEW}") from error
    for key, value in (("name", name), ("mar", mar), ("version", version)):
        if not _NAME.fullmatch(value):
            raise PointerError(
                f"{path} is damaged, {key} is {value!r} and not letters, digits, '.', '_' and '-': {_ANEW}"
            )
    places = [volume / "model-store" / mar, volume / "backup" / mar]
    # One that this user may not look for is not there either; why not is for check_archive to say.
    return Pointer(name, version, next((place for place in places if os.path.exists(place)), places[0]), sha256)


def check_archive(pointer: Pointer) -> None:
    """PointerError unless the archive is there and has the pointer's SHA-256."""
    try:
        with pointer.mar.open("rb") as archive:
            found = hashlib.file_digest(archive, "sha256").hexdigest()
    except OSError as error:
        raise PointerError(
            f"the pointer names {pointer.mar}, which cannot be read ({error.strerror}): restore it, from backup/ "
            "perhaps, or let this user read it, or remove current.json and run make run"
        ) from error
    if found != pointer.sha256:
        raise PointerError(
            f"{pointer.mar} has SHA-256 {found} where the pointer says {pointer.sha256}, so it is not what was "
            "deployed: remove it and run make run, which deploys it anew"
        )
