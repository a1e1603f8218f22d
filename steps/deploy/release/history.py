"""The history of the current version: who was current when, and which versions led to it."""

from collections.abc import Iterable
from typing import NamedTuple

from contract.environment import Environment
from contract.journal import Event
from steps.deploy.release.status import Change


class Period(NamedTuple):
    """When the pointer named a version, and who began it; `until` is None if it still does."""

    version: str
    since: str
    until: str | None
    by: str


def periods(history: Iterable[Change]) -> list[Period]:
    """The period of each current version, the oldest first."""
    found: list[Period] = []
    for change in history:
        if found and found[-1].until is None:
            found[-1] = found[-1]._replace(until=change.at)
        if change.version:
            found.append(Period(change.version, change.at, None, change.by))
    return found


def lineage(history: Iterable[Change]) -> list[str]:
    """The versions that led to the current one, which is the last, without those rolled back or undone."""
    path: list[str] = []
    for change in history:
        version = change.version
        if version is None:
            path.clear()
        elif change.event is not Event.DEPLOYED and version in path:
            del path[len(path) - path[::-1].index(version) :]
        elif path[-1:] != [version]:
            path.append(version)
    return path


def deployed_in_this_run(history: Iterable[Change], version: str) -> bool:
    """Whether this run on Kubeflow has deployed the version, in an earlier try of the step that was killed."""
    run = Environment().run_id
    return any((one.event, one.version, one.by) == (Event.DEPLOYED, version, run) for one in history if run)


def failure_in_this_run(history: tuple[Change, ...], version: str) -> str | None:
    """Why the last rollout, of this version, was undone, if an earlier try of this run on Kubeflow did that."""
    run, last = Environment().run_id, history[-1] if history else None
    if last and run and (last.event, last.before, last.by) == (Event.UNDONE, version, run):
        return last.reason
    return None
