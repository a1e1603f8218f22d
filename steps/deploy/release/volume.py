"""The files that follow from the journal: reads and writes the pointer and the records on the deploy volume."""

import io
import json
from collections.abc import Container, Mapping
from pathlib import Path

from contract.files import sync
from contract.pointer import DAMAGE, Pointer, Record, as_file, pointer_path, record_path
from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.volumes import deploy_volume


def write_pointer(pointer: Pointer | None) -> None:
    """Replace the pointer by rename: a reader sees the old version or the new. None removes it."""
    path = pointer_path(deploy_volume())
    if pointer:
        write_atomically(path, io.BytesIO(as_file(pointer)))
    else:
        path.unlink(missing_ok=True)
        sync(path.parent)


def read_unknown_records(known: Container[str]) -> list[Record]:
    """The records of versions that the journal does not know, by their deployment; StepError if one is damaged."""
    paths = [path for path in (deploy_volume() / "versions").glob("*.json") if path.stem not in known]
    found = [
        (record.deployed_at or "", path.stat().st_mtime_ns, record) for path in paths for record in [read_record(path)]
    ]
    return [record for *_, record in sorted(found, key=lambda row: row[:2])]


def read_record(path: Path) -> Record:
    """Read a record.

    Args:
        path: its file.

    Returns:
        The record.

    Raises:
        StepError: it is missing, or damaged.
    """
    try:
        return Record.parsed(json.loads(path.read_text()), needs=["network", "index"])
    except (OSError, *DAMAGE) as error:
        raise StepError(f"{path} cannot be read ({error!r}): restore it, or remove it") from error


def stale_records(records: Mapping[str, Record]) -> list[str]:
    """The versions whose files do not hold what these records say."""
    stale = []
    for version, record in records.items():
        path = record_path(deploy_volume(), version)
        try:
            if read_record(path) != record:
                stale.append(version)
        except StepError:
            stale.append(version)
    return stale


def write_record(record: Record) -> None:
    """Replace the file of this version's record by rename."""
    write_atomically(record_path(deploy_volume(), record.version), io.BytesIO(as_file(record)))
