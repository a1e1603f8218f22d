"""Reads the pointer to the current version, `<deploy volume>/current.json`, and verifies its archive."""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.errors import InputError
from contract.files import read_text
from contract.mounts import patience
from contract.pointer import BACKUP, DAMAGE, MODEL_STORE, Record, pointer_path, record_path

_WAIT_SECONDS = 0.5
_REMEDY = "remove it and run make run, which writes it anew"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RULE = "not letters, digits, '.', '_' and '-'"


class PointerError(InputError):
    """The pointer names no model that can be served; the message says why, and what to do."""


class NothingDeployedError(PointerError):
    """There is no pointer yet."""


@dataclass(frozen=True)
class Pointer:
    """The model to serve: its name, which is in its URL, its version, and its archive.

    `shadow` is what `serving.shadow` in params.yaml says, if the version is to be shadowed before it answers.
    """

    name: str
    version: str
    mar: Path
    sha256: str
    shadow: Mapping[str, Any] | None = None


def read_pointer(volume: Path, version: str = "") -> Pointer:
    """Read the pointer, or the record of a version.

    Args:
        volume: the deploy volume.
        version: the version to serve, whatever the pointer says; the pointer's if empty.

    Returns:
        The model to serve.

    Raises:
        NothingDeployedError: there is no pointer.
        PointerError: there is no record of the version, or the pointer is damaged.
    """
    if version and not _NAME.fullmatch(version):
        raise PointerError(f"the version is {version!r} and {_RULE}: see make versions")
    path = record_path(volume, version) if version else pointer_path(volume)
    try:
        record = Record.parsed(json.loads(read_text(path)), needs=["sha256"])
    except FileNotFoundError as error:
        if version:
            raise PointerError(f"no version {version} was ever deployed, {path} does not exist") from error
        raise NothingDeployedError(f"nothing is deployed yet, {path} does not exist: run make run first") from error
    except OSError as error:
        raise PointerError(f"{path} cannot be read ({error.strerror}): let this user read it") from error
    except DAMAGE as error:
        raise PointerError(f"{path} is damaged ({error!r}): {_REMEDY}") from error
    for key, value in (("name", record.name), ("mar", record.mar), ("version", record.version)):
        if not _NAME.fullmatch(value):
            raise PointerError(f"{path} is damaged, {key} is {value!r} and {_RULE}: {_REMEDY}")
    places = [volume / folder / record.mar for folder in (MODEL_STORE, BACKUP)]
    # os.path.exists also says no where this user must not look; check_archive then says why.
    mar = next((place for place in places if os.path.exists(place)), places[0])
    return Pointer(record.name, record.version, mar, record.sha256, record.shadow)


def served_first(volume: Path, pointer: Pointer) -> Pointer:
    """The version that a start serves: the one before, if the pointer's is to be shadowed yet.

    Args:
        volume: the deploy volume.
        pointer: what the pointer names.

    Returns:
        The version to start with.

    Raises:
        PointerError: the version before is to be served, and cannot be.
    """
    if not pointer.shadow:
        return pointer
    before = read_pointer(volume, str(pointer.shadow.get("before")))
    check_archive(before)
    if (before.name, before.mar.parent) != (pointer.name, pointer.mar.parent):
        raise PointerError(f"{before.mar} is in another folder than {pointer.mar}, or of another name")
    return before


def check_archive(pointer: Pointer) -> None:
    """Verify the archive's SHA-256.

    Raises:
        PointerError: the archive is missing, cannot be read, or is not the one that was deployed.
    """
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


def read_deployed(volume: Path, version: str = "") -> Pointer:
    """Read the pointer or the record of a version, and verify its archive.

    On a volume that nodes share, this one may see what was published a little later: it is waited for.

    Args:
        volume: the deploy volume.
        version: the version to serve, whatever the pointer says; the pointer's if empty.

    Returns:
        The model to serve, whose archive is whole.

    Raises:
        NothingDeployedError: there is no pointer.
        PointerError: errors are those of `read_pointer` and `check_archive`.
    """
    end = time.monotonic() + patience(volume)
    while True:
        try:
            pointer = read_pointer(volume, version)
            check_archive(pointer)
        except NothingDeployedError:
            raise
        except PointerError:
            if time.monotonic() >= end:
                raise
            time.sleep(_WAIT_SECONDS)
        else:
            return pointer


def wait_for_first(volume: Path, say: Callable[[str], object]) -> Pointer:
    """Wait until the pointer names an archive that is whole: its copy may be under way.

    Args:
        volume: the deploy volume.
        say: called with what is wrong with a pointer that is there, whenever that changes.

    Returns:
        The model to serve.
    """
    said = ""
    while True:
        try:
            pointer = read_pointer(volume)
            check_archive(pointer)
        except PointerError as error:
            if not isinstance(error, NothingDeployedError) and str(error) != said:
                said = str(error)
                say(said)
        else:
            return pointer
        time.sleep(_WAIT_SECONDS)
