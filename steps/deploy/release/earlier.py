"""The pointer as earlier versions of this project wrote it, before the journal told states: as entries of the journal.

It carried the line of its own switch, `switched`, and until the pods served its version what to go back to, `rollout`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from contract.journal import Entry, Template
from contract.pointer import Pointer
from steps.deploy.release.status import Status


def entries_of(content: Mapping[str, Any], status: Status, adopted: Entry) -> Iterator[Entry]:
    """The entries that tell what this pointer carries besides its record.

    Args:
        content: the pointer's JSON.
        status: what the journal says so far.
        adopted: the entry of the pointer if it carries nothing.

    Yields:
        The pointer to go back to, if it has one, and then the pointer itself.
    """
    if rollout := content.get("rollout"):
        if rollout["before"]:
            before = Pointer.parsed(rollout["before"])
            notes = before.rolled_back
            yield replace(
                adopted, event=None, version=before.version, before=None, record=before.record, rolled_back=notes
            )
        adopted = replace(adopted, template=Template(rollout["template"]["version"], rollout["template"]["image"]))
    if carried := content.get("switched"):
        line = Entry.of(carried)
        if (line.at, line.event, line.version, line.before, line.by, line.reason) not in status.history:
            adopted = replace(adopted, at=line.at, by=line.by, event=line.event, before=line.before, reason=line.reason)
    yield adopted
