"""The journal of releases: the types of `<deploy volume>/audit.jsonl`, one JSON object a line, never changed.

A line with a `schema` number tells one transition of a switch; the states are those of `State`. A line without one,
which earlier versions of this project wrote, tells a whole switch: it is read as `State.ADOPTED`.
The file is the one that was there before it had states, so that nothing has to be migrated.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from contract import files
from contract.pointer import DAMAGE, Note, Pointer, Record

SCHEMA = 1


class State(StrEnum):
    """How far a switch is; the last two tell what was found on the volume and not done by a switch."""

    REQUESTED = "requested"
    POINTED = "pointed"
    ROLLED = "rolled"
    CONFIRMED = "confirmed"
    UNDONE = "undone"
    ADOPTED = "adopted"  # the pointer as a person, or an earlier version of this project, left it
    KNOWN = "known"  # a record that an earlier version of this project wrote


class Event(StrEnum):
    """Why the current version changed."""

    DEPLOYED = "deployed"
    ROLLED_BACK = "rolled-back"
    UNDONE = "undone"


@dataclass(frozen=True)
class Template:
    """Version and image that the Deployment's pod template names; the version is None if it was never stamped."""

    version: str | None
    image: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the journal.

    `version` is the version that is current afterwards, None if there is none, and `before` the one until then.
    `record` is the record of `version`, and `rolled_back` what else an adopted pointer says.
    `template` is what the Deployment has to be set back to as long as the version is not confirmed.
    """

    at: str
    by: str
    state: State
    version: str | None
    event: Event | None = None
    before: str | None = None
    reason: str = ""
    record: Record | None = None
    rolled_back: tuple[Note, ...] = ()
    template: Template | None = None

    @property
    def pointer(self) -> Pointer | None:
        """The pointer that an adopted entry holds."""
        return Pointer.to(self.record, self.rolled_back) if self.record else None

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """Read a line of the journal.

        Returns:
            The entry; None if a crash tore the line.

        Raises:
            ValueError: a later version of this project wrote it.
        """
        try:
            line = json.loads(text)
            schema = line.get("schema", 0)
        except DAMAGE:
            return None
        if schema not in range(SCHEMA + 1):
            raise ValueError(f"its schema is {schema!r} and this project reads up to {SCHEMA}: update the project")
        try:
            return cls.of(line)
        except DAMAGE:
            return None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Self:
        """The entry in a line's JSON; one of `DAMAGE` if it is none."""
        record, template = line.get("record"), line.get("template")
        # Before there were states, each line had an event.
        event = Event(line["event"]) if "schema" not in line or "event" in line else None
        return cls(
            at=str(line["at"]),
            by=str(line["by"]),
            state=State(line["state"]) if "schema" in line else State.ADOPTED,
            version=line["version"],
            event=event,
            before=line.get("before"),
            reason=str(line.get("reason") or ""),
            record=Record.parsed(record) if record else None,
            rolled_back=tuple(Note.parsed(note) for note in line.get("rolled_back", ())),
            template=Template(template["version"], template["image"]) if template else None,
        )

    def line(self) -> bytes:
        """The entry as a line of the file."""
        content = {"schema": SCHEMA, "at": self.at, "by": self.by, "state": self.state, "version": self.version}
        more = {
            "event": self.event,
            "before": self.before,
            "reason": self.reason,
            "record": self.record and self.record.content(),
            "rolled_back": [vars(note) for note in self.rolled_back],
            "template": self.template and vars(self.template),
        }
        return (
            json.dumps(content | {key: value for key, value in more.items() if value}, allow_nan=False).encode() + b"\n"
        )


def journal_path(volume: Path) -> Path:
    """The journal's file on the deploy volume."""
    return volume / "audit.jsonl"


def append(volume: Path, entry: Entry) -> None:
    """Write an entry to disk, on a new line if a crash tore the last one; the caller holds the volume's lock.

    Args:
        volume: The deploy volume.
        entry: The entry.
    """
    files.append(journal_path(volume), entry.line())


def read_journal(volume: Path) -> list[Entry]:
    """Every entry, the oldest first, without lines that a crash tore; OSError or ValueError if it cannot be read."""
    try:
        text = journal_path(volume).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [entry for entry in map(Entry.parsed, text.splitlines()) if entry]
