"""The table of versions, what on the volume disagrees with the journal, and the rebuild of it from the journal."""

from contract.journal import State
from contract.pointer import Pointer, Record
from steps.common.errors import StepError
from steps.common.pointer import read_pointer_file
from steps.common.volumes import deploy_volume
from steps.deploy.release.history import Period, periods
from steps.deploy.release.journal import Journal, read_status
from steps.deploy.release.lock import exclusive
from steps.deploy.release.measured import Measurements
from steps.deploy.release.settle import Found, missing
from steps.deploy.release.status import Status, after
from steps.deploy.release.volume import read_unknown_records, stale_records, write_pointer, write_record

REBUILD = "make versions REBUILD=1"
_NOTHING = "-"
_COLUMNS = ("", "version", "deployed", "accuracy", "measured", "dataset", "network", "served from", "until", "by")


def versions() -> list[str]:
    """Tell of the versions; write nothing. StepError if the journal, or a record that it does not know, is damaged.

    Returns:
        The table of versions, the oldest first, a row for each period, with `*` at the current one. Below it what
        disagrees with the journal, and whether a switch is unfinished.
    """
    told = status = read_status()
    found, damage = _found(told)
    adopted = False
    for entry in missing(told, found) if not damage else ():
        status = after(status, entry)
        adopted = adopted or entry.state is State.ADOPTED
    notes = [f"{damage}, or {REBUILD} writes it from the journal"] if damage else []
    if adopted and told.pointer_known:
        names = f"names {found.pointer.version}" if found.pointer else "is missing"
        notes.append(
            f"current.json {names} and is not what the journal says, {told.version or 'nothing'}: the next deploy or "
            f"rollback takes it as set by hand, and {REBUILD} writes it from the journal"
        )
    pending = told.pending.version if told.pending else None
    for stale in stale_records(told.records):
        if stale != pending:
            notes.append(f"versions/{stale}.json is not what the journal says: {REBUILD} writes it from the journal")
    if pending or told.template:
        version = pending or told.version
        state = "to be set back in the Deployment" if told.state is State.UNDONE else str(told.state)
        notes.append(
            f"{version} is {state} and not confirmed: a run is about it, or was killed and the next one goes on with it"
        )
    if not status.records:
        return notes or [f"nothing was deployed yet in {deploy_volume()}"]
    measured = Measurements()
    notes += filter(None, (measured.note(record) for record in _in_order(status)))
    return _table(status, measured) + notes


def rebuild() -> list[str]:
    """Write pointer and records from the journal where they disagree with it.

    What an earlier version of this project wrote is taken over into the journal first, so that nothing is lost.

    Returns:
        A line for each file that was written.

    Raises:
        StepError: the journal cannot be read, or a record that it does not know is damaged.
    """
    if not deploy_volume().is_dir():
        raise StepError(f"nothing was deployed in {deploy_volume()}: choose the volumes with VOLUMES=folder")
    with exclusive():
        journal = Journal()
        found, damage = _found(journal.status)
        by_hand = journal.status.pointer_known
        if damage and not by_hand:
            raise StepError(damage)
        for entry in missing(journal.status, found):
            if entry.state is not State.ADOPTED or not by_hand:
                journal.append(entry)
        status, lines = journal.status, []
        for version in stale_records(status.records):
            write_record(status.records[version])
            lines.append(f"versions/{version}.json was written from the journal")
        if damage or found.pointer != status.current:
            write_pointer(status.current)
            lines.append(
                f"current.json was written from the journal: it names {status.version}"
                if status.current
                else "current.json was removed: the journal says that nothing is served"
            )
        return lines or ["nothing disagrees with the journal"]


def _found(status: Status) -> tuple[Found, str]:
    """What lies on the volume, and what is wrong with the pointer, which then counts as missing."""
    unknown, damage = read_unknown_records(status.records), ""
    pointer: Pointer | None
    try:
        pointer, content = read_pointer_file()
    except StepError as error:
        pointer, content, damage = None, {}, str(error)
    return Found(pointer, content, unknown), damage


def _in_order(status: Status) -> list[Record]:
    return sorted(status.records.values(), key=lambda record: record.deployed_at or "")


def _table(status: Status, measured: Measurements) -> list[str]:
    told = periods(status.history)
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for record in _in_order(status):
        mark = "*" if status.current and status.current.version == record.version else ""
        own = [each for each in told if each.version == record.version]
        for number, period in enumerate(own or [Period(record.version, *[_NOTHING] * 3)]):
            first = (mark, *_facts(record, measured)) if number == 0 else ("",) * 7
            rows.append((*first, period.since, period.until or "now", period.by))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _facts(record: Record, measured: Measurements) -> tuple[str, ...]:
    accuracy = f"{record.accuracy:.4f}" if isinstance(record.accuracy, float) else _NOTHING
    shown = accuracy, measured.text(record.version) or _NOTHING
    return (record.version, record.deployed_at or _NOTHING, *shown, record.dataset or _NOTHING, record.network)
