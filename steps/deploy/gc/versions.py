"""Which versions are kept, and what they need: reads the journal, the pointer and the archives; changes nothing."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from contract.pointer import BACKUP, MODEL_STORE, Record
from steps.common.models import seen
from steps.common.volumes import deploy_volume
from steps.deploy.release.history import lineage, periods
from steps.deploy.release.journal import found, read_status
from steps.deploy.release.settle import missing
from steps.deploy.release.status import Status, after


@dataclass(frozen=True)
class Kept:
    """A version that is kept, and why; `is_current` if a run without changes ends with it."""

    record: Record
    why: str
    is_current: bool

    def artefacts(self) -> list[str]:
        """The ids of what it needs on the data and model volumes; what these were made of is needed, too."""
        record = self.record
        named = (record.version, record.verdict, record.network, record.index, record.test, record.dataset)
        return [id for id in (*named, *_named_in_archive(record)) if id]


@dataclass(frozen=True)
class Versions:
    """The versions that are kept, and the archives in `backup/` of those that are not."""

    kept: tuple[Kept, ...]
    old_archives: tuple[Path, ...]


def versions(cutoff: int) -> Versions:
    """The versions that the pointer, a rollback or the model store needs, and those that served since a time.

    Args:
        cutoff: The time, in nanoseconds.

    Returns:
        The versions. What the pointer and the records say beside the journal is kept, too.

    Raises:
        StepError: The journal, the pointer or a record is damaged.
    """
    status = read_status()
    for entry in missing(status, found(status)):
        status = after(status, entry)
    why = dict(_reasons(status, cutoff))
    current = status.current.version if status.current else None
    kept = [
        Kept(record, why[version], version == current) for version, record in status.records.items() if version in why
    ]
    backup = deploy_volume() / BACKUP
    old = [backup / record.mar for version, record in status.records.items() if version not in why]
    names = {each.record.mar for each in kept}
    return Versions(tuple(kept), tuple(path for path in old if path.is_file() and path.name not in names))


def _reasons(status: Status, cutoff: int) -> Iterator[tuple[str, str]]:
    """Each version that is kept, with why; the last reason of a version is the strongest."""
    for period in periods(status.history):
        if period.until and _nanoseconds(period.until) >= cutoff:
            yield period.version, f"version {period.version} served until {period.until}"
    told = {period.version for period in periods(status.history)}
    for version, record in status.records.items():
        if version not in told and _nanoseconds(record.deployed_at or "") >= cutoff:
            yield version, f"version {version} was deployed at {record.deployed_at or 'an unknown time'}"
        if (deploy_volume() / MODEL_STORE / record.mar).is_file():
            yield version, f"version {version} is in the model store"
    for version in lineage(status.history)[-2:-1]:
        yield version, f"version {version} is that of make rollback"
    pending = status.pending.version if status.pending else None
    for pointer in (status.confirmed, status.current):
        if pointer:
            yield pointer.version, f"version {pointer.version} is current"
    if pending:
        yield pending, f"version {pending} is being switched to"


def _nanoseconds(time: str) -> int:
    """A time of the journal or of a record; one that cannot be read counts as never past."""
    try:
        return int(datetime.fromisoformat(time).timestamp() * 1e9)
    except ValueError:
        return 1 << 63


def _named_in_archive(record: Record) -> list[str]:
    """What an archive without `seen.npz` says that it was made of: its splits tell which images it has had."""
    for folder in (MODEL_STORE, BACKUP):
        try:
            with zipfile.ZipFile(deploy_volume() / folder / record.mar) as archive:
                if seen.FILE in archive.namelist():
                    return []
                return list(json.loads(archive.read("provenance.json"))["artefacts"])
        except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile):
            continue
    return []
