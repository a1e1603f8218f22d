"""The log of who was served when: reads `<deploy volume>/audit.jsonl`, and appends a line for each switch.

A line is never changed. The pointer carries the line of the switch that made it, so that one rename does both: a line
that a killed run could not append is found there and appended by the next.
"""

import getpass
import json
import os
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from contract.environment import Environment
from steps.common.files import sync, writing
from steps.common.volumes import deploy_volume

Line = dict[str, Any]
DEPLOYED, ROLLED_BACK, UNDONE = "deployed", "rolled-back", "undone"
_UNKNOWN = "unknown"


class Period(NamedTuple):
    """When the pointer named a version, and who began it; `until` is None if it still does."""

    version: str
    since: str
    until: str | None
    by: str


def now() -> str:
    """The time, as it stands in every file of the deploy volume."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def entry(event: str, version: str | None, before: str | None, reason: str, *, by: str = "", at: str = "") -> Line:
    """A line of the log, not yet written."""
    return {
        "at": at or now(),
        "event": event,
        "version": version,
        "before": before,
        "by": by or _who(),
        "reason": reason,
    }


def read() -> list[Line]:
    """Every line, the oldest first; one that a crash tore is left out."""
    try:
        text = _path().read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in map(_parsed, text.splitlines()) if line]


def append(line: Line) -> None:
    """Write a line to disk; whoever calls it holds the volume's lock."""
    path, data = _path(), json.dumps(line).encode() + b"\n"
    with writing(path.parent):
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            os.write(handle, b"\n" + data if torn else data)
            os.fsync(handle)
        finally:
            os.close(handle)
        sync(path.parent)


def missing(pointer: Mapping[str, Any] | None, lines: list[Line]) -> Line | None:
    """The line that the pointer shows to be missing: of a run that was killed, or of a change made by hand."""
    last = lines[-1]["version"] if lines else None
    if pointer is None:
        return entry(UNDONE, None, last, "the pointer was removed", by=_UNKNOWN) if last else None
    if (carried := pointer.get("switched")) and carried not in lines:
        return dict(carried)
    if last == pointer["version"]:
        return None
    reason = "the pointer was set by hand" if lines else "served before there was a log"
    at = "" if lines else str(pointer.get("deployed_at", ""))
    return entry(DEPLOYED, pointer["version"], last, reason, by=_UNKNOWN, at=at)


def undone_here(version: str) -> str | None:
    """Why the last switch took this version back, if that was an earlier try of this same run on Kubeflow."""
    last, run = (read() or [{}])[-1], Environment().run_id
    if run and (last.get("event"), last.get("before"), last.get("by")) == (UNDONE, version, run):
        return str(last.get("reason"))
    return None


def periods(lines: Iterable[Line]) -> list[Period]:
    """Who was served when, the oldest first."""
    found: list[Period] = []
    for line in lines:
        if found and found[-1].until is None:
            found[-1] = found[-1]._replace(until=line["at"])
        if line["version"]:
            found.append(Period(line["version"], line["at"], None, line["by"]))
    return found


def served(lines: Iterable[Line]) -> list[str]:
    """The versions that led to the one now served, which is the last: what was rolled back or undone is not of them."""
    path: list[str] = []
    for line in lines:
        version = line["version"]
        if line["event"] != DEPLOYED and version in path:
            del path[len(path) - path[::-1].index(version) :]
        elif version is None:
            path.clear()
        elif path[-1:] != [version]:
            path.append(version)
    return path


def _path() -> Any:
    return deploy_volume() / "audit.jsonl"


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
        return {**line, "at": str(line["at"]), "event": line["event"], "version": line["version"], "by": line["by"]}
    except (ValueError, KeyError, TypeError):
        return None


def _who() -> str:
    """The run on Kubeflow, or the person."""
    if run := Environment().run_id:
        return run
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as a container may have
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
