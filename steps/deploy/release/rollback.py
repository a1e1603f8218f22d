"""Going back to an earlier version, and a table of all: reads the records, the log and the archives.

Writes what a switch writes; an archive in `backup/` comes back into the model store.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.files import write_atomically, writing
from steps.common.pointer import MODEL_STORE, read_pointer
from steps.common.volumes import deploy_volume, model_volume
from steps.deploy.deploy import retire
from steps.deploy.release import audit
from steps.deploy.release.switch import Pointer, alone, records, switch

_NOTHING = "-"
_COLUMNS = ("", "version", "deployed", "accuracy", "dataset", "network", "served from", "until", "by")


def rollback(version: str | None = None) -> str:
    """Serve this version, or the one that was served before the current one; gives the closing line.

    Its archive is verified before anything is touched. The version left is noted, so that analyse rejects its network
    and index from now on; the note on the version gone to is taken off. StepError if it cannot be done.
    """
    if not deploy_volume().is_dir():
        raise StepError(f"nothing was deployed in {deploy_volume()}: choose the volumes with VOLUMES=folder")
    with alone() as current:
        known, path = records(), audit.served(audit.read())
        target = version or _before(current, path)
        if target not in known:
            raise StepError(f"no version {target} was ever deployed here; {_known(known)}")
        if current and target == current["version"]:
            _restore(_archive(current), current)
            rolled = switch(current, current, audit.ROLLED_BACK, "")
            return f"{target} is served already" + ("; its pods were brought to it" if rolled else "")
        wanted = known[target]
        found, kept = _archive(wanted), len(list((deploy_volume() / MODEL_STORE).glob("*.mar")))
        mar = _restore(found, wanted)
        notes = {note["version"]: note for note in (current or {}).get("rolled_back", [])}
        forward = notes.pop(target, None)  # who takes a rollback back does not say that the other version is bad
        if current and not forward:
            own = {key: current[key] for key in ("version", "network", "index")}
            notes[current["version"]] = {**own, "at": audit.now()}
        was = current["version"] if current else "nothing"
        switch(current, {**wanted, "rolled_back": list(notes.values())}, audit.ROLLED_BACK, f"rolled back from {was}")
        retire(mar, max(kept, 1))  # one that came back from backup sends the oldest there
        return f"ROLLED BACK to {target} (was {was})"


def versions() -> list[str]:
    """The table of every version, the oldest first, a line for each time that it was served; `*` marks the current."""
    current, lines = read_pointer(), audit.read()
    if line := audit.missing(current, lines):
        lines.append(line)
    served = audit.periods(lines)
    rows = [_COLUMNS]
    known = records()
    if current and current["version"] not in known:
        known[current["version"]] = current
    for version, one in known.items():
        accuracy = f"{one['accuracy']:.4f}" if isinstance(one.get("accuracy"), float) else _NOTHING
        facts = (str(one.get("deployed_at") or _NOTHING), accuracy, str(one.get("dataset") or _NOTHING), one["network"])
        mark = "*" if current and current["version"] == version else ""
        periods = [period for period in served if period.version == version] or [audit.Period(version, *[_NOTHING] * 3)]
        for number, period in enumerate(periods):
            first = (mark, version, *facts) if number == 0 else ("",) * 6
            rows.append((*first, period.since, period.until or "now", period.by))
    if len(rows) == 1:
        return [f"nothing was deployed yet in {deploy_volume()}"]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _before(current: Pointer | None, path: list[str]) -> str:
    if current is None:
        raise StepError(f"nothing is served, so there is nothing to go back from: name a version; {_known(records())}")
    if len(path) < 2:
        raise StepError(
            f"there is no version to go back to: none was served before {current['version']}; {_known(records())}"
        )
    return path[-2]


def _known(versions: Iterable[str]) -> str:
    names = ", ".join(versions)
    return f"the versions are {names}" if names else "no version was deployed yet"


def _archive(pointer: Pointer) -> Path:
    """Where the whole archive of a version is: in the model store, in backup, or as it was proven."""
    mar, version = str(pointer["mar"]), str(pointer["version"])
    store, backup = deploy_volume() / MODEL_STORE / mar, deploy_volume() / "backup" / mar
    proven = model_volume() / "archive" / version / "model.mar"
    places = [path for path in (store, backup, proven) if path.is_file()]
    for path in places:
        if file_sha256(path) == pointer.get("sha256"):
            return path
    if places:
        found = ", ".join(map(str, places))
        raise StepError(f"the archive of {version} is damaged: {found} has not the SHA-256 of its record")
    raise StepError(f"the archive of {version} is lost: it is neither {store} nor {backup}; restore it from a copy")


def _restore(found: Path, pointer: Pointer) -> Path:
    """Have the archive in the model store, as its newest, so that it is the last to go to backup again."""
    mar = deploy_volume() / MODEL_STORE / str(pointer["mar"])
    with writing(mar.parent):
        if found.parent.name == "backup":
            found.replace(mar)
        elif found != mar:
            with found.open("rb") as source:
                write_atomically(mar, source)
        os.utime(mar)
    return mar
