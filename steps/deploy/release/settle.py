"""What the journal lacks: of a run that was killed, of a change by hand, of an earlier version of this project.

Every write of the pointer is requested in the journal before, and told as done after it. So the pointer shows whether
a killed run got as far as to write it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contract.journal import Entry, Event, State
from contract.pointer import Pointer, Record
from steps.deploy.release import earlier
from steps.deploy.release.actor import now, who
from steps.deploy.release.status import Status, after, target

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Found:
    """What lies on the deploy volume: the pointer and its JSON, and the records that the journal does not know."""

    pointer: Pointer | None
    content: Mapping[str, Any]
    unknown: Iterable[Record] = ()


def missing(status: Status, found: Found) -> Iterator[Entry]:
    """The entries that the journal lacks to tell of what was found; by the last of them it does."""
    if request := status.pending:
        pointed = found.pointer == target(status.current, request)
        entry = _pointed(request) if pointed else _abandoned(status, request)
        yield entry
        status = after(status, entry)
    if found.pointer == status.current and (found.pointer or not status.version):
        if status.current != status.confirmed and status.template is None:
            # Where there is no Deployment, the pointer is all there is to change.
            yield Entry(at=now(), by=who(), state=State.CONFIRMED, version=status.version)
    elif status.template and status.current != status.confirmed and found.pointer == status.confirmed:
        yield _undone(status)
    else:
        for entry in _adopted(status, found):
            yield entry
            status = after(status, entry)
    for record in found.unknown:
        if record == status.records.get(record.version):
            continue
        yield Entry(at=now(), by=_UNKNOWN, state=State.KNOWN, version=record.version, record=record)


def _pointed(request: Entry) -> Entry:
    return Entry(at=now(), by=request.by, state=State.POINTED, version=request.version)


def _abandoned(status: Status, request: Entry) -> Entry:
    reason = "the run ended before it changed the pointer"
    return Entry(at=now(), by=who(), state=State.UNDONE, version=status.version, before=request.version, reason=reason)


def _undone(status: Status) -> Entry:
    """The end of an undo that was killed; whether it set the Deployment back is not known, so it is done again."""
    return Entry(
        at=now(),
        by=status.request.by if status.request else _UNKNOWN,
        state=State.UNDONE,
        event=Event.UNDONE,
        version=status.confirmed.version if status.confirmed else None,
        before=status.version,
        reason="the run was killed after the rollout had failed",
        template=status.template,
    )


def _adopted(status: Status, found: Found) -> Iterator[Entry]:
    pointer, last = found.pointer, status.version
    if pointer is None:
        reason = "the pointer was removed"
        yield Entry(
            at=now(), by=_UNKNOWN, state=State.ADOPTED, event=Event.UNDONE, version=None, before=last, reason=reason
        )
        return
    same, earlier_version = last == pointer.version, "schema" not in found.content
    entry = Entry(
        at=now() if status.history else pointer.deployed_at or now(),
        by=_UNKNOWN,
        state=State.ADOPTED,
        event=None if same else Event.DEPLOYED,
        version=pointer.version,
        before=None if same else last,
        reason=_reason(status, same and earlier_version),
        record=pointer.record,
        rolled_back=pointer.rolled_back,
    )
    yield from earlier.entries_of(found.content, status, entry) if earlier_version else [entry]


def _reason(status: Status, taken_over: bool) -> str:
    if taken_over:
        return "an earlier version of this project wrote the pointer"
    return "the pointer was set by hand" if status.history else "current before there was a journal"
