"""What the journal says, as a fold over its entries: pure functions, no files.

The pointer, the records of versions and the notes on versions taken out of service all follow from it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from contract.journal import Entry, Event, State, Template
from contract.pointer import Note, Pointer, Record


class Change(NamedTuple):
    """A change of the current version; `before` is the version until then, `by` the run or the person."""

    at: str
    event: Event
    version: str | None
    before: str | None
    by: str
    reason: str


@dataclass(frozen=True)
class Status:
    """The state of the last switch, and all that follows from the journal.

    `current` is what the pointer says, and `confirmed` the pointer to go back to if the pods do not come to serve it.
    `pending` is a request whose pointer is not written yet, and `request` the one that led to `current`.
    `template` is what the Deployment has to be set back to; None if no rollout is unfinished.
    """

    state: State | None = None
    current: Pointer | None = None
    confirmed: Pointer | None = None
    pending: Entry | None = None
    request: Entry | None = None
    template: Template | None = None
    records: Mapping[str, Record] = field(default_factory=dict)
    history: tuple[Change, ...] = ()

    @property
    def version(self) -> str | None:
        """The current version; None if there is none."""
        return self.history[-1].version if self.history else None

    @property
    def pointer_known(self) -> bool:
        """Whether the journal says what the pointer is; one that earlier versions wrote alone says only its version."""
        return self.state is not None and (self.current is not None or self.version is None)

    @property
    def finished(self) -> bool:
        """Whether the last switch is confirmed, or undone to the end."""
        return self.pending is None and self.current == self.confirmed and self.template is None


def status_of(entries: Iterable[Entry]) -> Status:
    """What these entries say, the oldest first."""
    status = Status()
    for entry in entries:
        status = after(status, entry)
    return status


def after(status: Status, entry: Entry) -> Status:
    """The status once this entry is written: the transitions of the state machine in `switch.py`."""
    if entry.state is not State.KNOWN:
        status = replace(status, state=entry.state)
    match entry.state:
        case State.REQUESTED:
            status = replace(_known(status, entry.record), pending=entry)
        case State.POINTED if request := status.pending:
            current = target(status.current, request)
            status = replace(status, current=current, template=request.template, request=request, pending=None)
            status = _changed(status, request)
        case State.CONFIRMED:
            status = replace(status, confirmed=status.current, template=None)
        case State.UNDONE if status.pending:
            status = replace(status, pending=None)
        case State.UNDONE:
            status = replace(status, current=status.confirmed, template=entry.template)
            status = _changed(_known(status, status.confirmed and status.confirmed.record), entry)
        case State.ADOPTED:
            confirmed = status.confirmed if entry.template else entry.pointer
            status = replace(status, current=entry.pointer, confirmed=confirmed, template=entry.template, pending=None)
            status = _changed(_known(status, entry.record), entry)
        case State.KNOWN:
            status = _known(status, entry.record)
    return status


def target(current: Pointer | None, request: Entry) -> Pointer:
    """Derive the pointer that a request leads to.

    A rollback notes the version that it leaves. Going forward again takes that version's note off, and leaves none.

    Args:
        current: the pointer before.
        request: an entry with the record of the version requested.

    Returns:
        The pointer.

    Raises:
        ValueError: the entry has no record.
    """
    if request.record is None:
        raise ValueError(f"the request of {request.version} has no record")
    notes = {note.version: note for note in current.rolled_back} if current else {}
    if request.event is Event.ROLLED_BACK:
        forward = notes.pop(request.record.version, None)
        if current and not forward:
            notes[current.version] = Note(current.version, current.network, current.index, request.at)
    return Pointer.to(request.record, notes.values())


def _known(status: Status, record: Record | None) -> Status:
    return replace(status, records={**status.records, record.version: record}) if record else status


def _changed(status: Status, entry: Entry) -> Status:
    if entry.event is None or entry.version == entry.before:
        return status
    change = Change(entry.at, entry.event, entry.version, entry.before, entry.by, entry.reason)
    return replace(status, history=(*status.history, change))
