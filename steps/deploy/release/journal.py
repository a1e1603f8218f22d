"""The journal of the deploy volume: read, appended to under the volume's lock, and settled with its files."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contract.files import sync
from contract.journal import Entry, State, append, journal_path, read_journal
from steps.common.errors import StepError
from steps.common.files import writing
from steps.common.pointer import read_pointer_file
from steps.common.volumes import deploy_volume
from steps.deploy.release.actor import now, who
from steps.deploy.release.lock import exclusive
from steps.deploy.release.settle import Found, missing
from steps.deploy.release.status import Status, after, status_of
from steps.deploy.release.volume import read_unknown_records, stale_records, write_record


class Journal:
    """The journal of a deploy volume that this process has locked; `status` is what it says."""

    def __init__(self) -> None:
        self.status = read_status()

    def tell(self, state: State, version: str | None, **more: Any) -> Entry:
        """Append an entry of this run, whose other fields are `more`."""
        return self.append(Entry(at=now(), by=who(), state=state, version=version, **more))

    def append(self, entry: Entry) -> Entry:
        """Write an entry to disk, on a new line if a crash tore the last one; StepError if it cannot be written."""
        with writing(deploy_volume()):
            append(deploy_volume(), entry)
            sync(deploy_volume())
        self.status = after(self.status, entry)
        return entry


@contextmanager
def opened(*, without_locks: bool = True) -> Iterator[Journal]:
    """Lock the deploy volume, and settle its journal with its files; StepError if one is damaged or not writable.

    Args:
        without_locks: go on where the file system has no locks, as commands do that a person starts.

    Yields:
        The journal.
    """
    with exclusive(without_locks=without_locks):
        journal = Journal()
        for entry in missing(journal.status, found(journal.status)):
            journal.append(entry)
        for version in stale_records(journal.status.records):
            write_record(journal.status.records[version])
        yield journal


def read_status() -> Status:
    """Read the journal.

    Returns:
        What it says.

    Raises:
        StepError: it cannot be read.
    """
    path = journal_path(deploy_volume())
    try:
        return status_of(read_journal(deploy_volume()))
    except OSError as error:
        raise StepError(f"{path} cannot be read ({error.strerror}): let this user read it") from error
    except ValueError as error:
        raise StepError(f"{path} cannot be read: {error}") from error


def found(status: Status) -> Found:
    """What lies on the deploy volume; StepError if a file there is damaged."""
    return Found(*read_pointer_file(), read_unknown_records(status.records))
