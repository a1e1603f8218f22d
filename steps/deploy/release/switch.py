"""Switching to another version: writes its record, the pointer and a line of the log, and rolls the pods to it.

On the deploy volume these are `versions/<version>.json`, `current.json` and `audit.jsonl`. In a cluster the pointer
carries, until the pods serve its version, what to go back to: after a kill, or while the Deployment cannot be changed,
the next run rolls on or goes back.
"""

import fcntl
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from contract.environment import Environment
from contract.events import Waiting
from steps.common.errors import StepError
from steps.common.events import emit
from steps.common.files import sync, write_atomically, writing
from steps.common.pointer import MODEL_STORE, pointer_path, read_pointer, write_pointer
from steps.common.volumes import deploy_volume
from steps.deploy.release import audit

Pointer = dict[str, Any]
# What a pointer says of its switch, and not of its version.
_OF_THE_SWITCH = ("rolled_back", "switched", "rollout")


class RolledBackError(StepError):
    """The pods could not be brought to a version; the message says how far they are back at the one before."""

    exit_status = 1


@contextmanager
def alone() -> Iterator[Pointer | None]:
    """Let one run at a time change the deploy volume; the kernel drops the lock if its holder dies.

    Yields the pointer, once the log tells of it.
    """
    folder = deploy_volume()
    with writing(folder), (folder / ".lock").open("w") as lock:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                emit(Waiting("another run is switching what is served"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        current = read_pointer()
        if line := audit.missing(current, audit.read()):
            audit.append(line)
        yield current


def switch(current: Pointer | None, wanted: Pointer, event: str, reason: str) -> bool:
    """Go from `current`, what `alone` gave, to `wanted`, or see that pods serve it if they are one; True if it changed.

    RolledBackError or StepError if the pods do not come to serve it.
    """
    if why := audit.undone_here(wanted["version"]):  # Kubeflow tries again whatever failed
        if current and "rollout" in current:
            switch(current, current, event, reason)  # what that try could not set back
        raise StepError(f"{wanted['version']} is rolled out once in a run, and a new run tries again: {why}")
    deployment = _deployment()
    # Asked first of all: a Deployment that is missing or forbidden leaves everything as it was.
    template = deployment.template() if deployment else None
    unfinished = (current or {}).get("rollout")  # of a run that did not get as far as pods that serve
    changed, rolled = wanted is not current, False
    back = unfinished or {"before": current, "template": template}
    if changed:
        wanted = _point(current, wanted, event, reason, back if deployment else None)
    if deployment:
        mar = deploy_volume() / MODEL_STORE / wanted["mar"]
        try:
            rolled = deployment.roll(wanted["name"], wanted["version"], wanted.get("image"), mar)
        except Exception as error:
            _undo(deployment, wanted, back, error)
    if "rollout" in wanted:
        write_pointer({key: value for key, value in wanted.items() if key != "rollout"})
    return changed or rolled


def record(version: str) -> Pointer | None:
    """What the pointer said when this version was deployed; None if it never was."""
    return records().get(version)


def records() -> dict[str, Pointer]:
    """The record of every version that was ever deployed, the oldest first; StepError if one is damaged."""
    found: list[tuple[str, int, Pointer]] = []
    for path in (deploy_volume() / "versions").glob("*.json"):
        try:
            one: Pointer = json.loads(path.read_text())
            one.update({key: str(one[key]) for key in ("name", "version", "mar", "network", "index")})
            found.append((str(one.get("deployed_at", "")), path.stat().st_mtime_ns, one))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StepError(f"{path} cannot be read ({error!r}): restore it, or remove it") from error
    return {one["version"]: one for *_, one in sorted(found, key=lambda row: row[:2])}


def _point(current: Pointer | None, wanted: Pointer, event: str, reason: str, back: Pointer | None) -> Pointer:
    before = current["version"] if current else None
    line = (current or {}).get("switched")
    if before != wanted["version"]:
        line = audit.entry(event, wanted["version"], before, reason)
    wanted = {**wanted, **({"switched": line} if line else {}), **({"rollout": back} if back else {})}
    for pointer in (current, wanted):  # a pointer from before there were records gets one now
        if pointer:
            _remember(pointer)
    write_pointer(wanted)
    if before != wanted["version"]:
        audit.append(wanted["switched"])
    return wanted


def _undo(deployment: Any, failed: Pointer, back: Pointer, error: Exception) -> None:
    """Set template and pointer back, in this order, and wait for the pods. Raises RolledBackError.

    A kill between them, or a template that cannot be set back, leaves a pointer that says that there is more to do.
    """
    reason, before = str(error), back["before"]
    try:
        moved = deployment.restore(back["template"])
    except StepError as trouble:
        reason += f"; nor was the Deployment set back ({trouble})"
        if before:  # otherwise the pointer stays as it is, since there is no other to carry the rest
            _point_back(failed, {**before, "rollout": back}, reason)
        again = (before or failed)["version"]
        raise RolledBackError(
            f"{failed['version']} was not rolled out: {reason}; the next run that deploys goes on with that, and so "
            f"does make rollback VERSION={again}"
        ) from error
    _point_back(failed, before, reason)
    served = f"{before['version'] if before else 'nothing'} is served as before"
    if moved and before:  # after the pointer, which pods without a stamp follow
        message = f"{failed['version']} was not rolled out ({reason}): its pods go back to {before['version']}"
        emit(Waiting(message))
        try:
            deployment.wait(back["template"]["version"])
        except StepError as trouble:
            served, reason = f"its pods are going back to {before['version']}", f"{reason}; on the way back {trouble}"
    raise RolledBackError(f"{failed['version']} was not rolled out, and {served}: {reason}") from error


def _point_back(failed: Pointer, before: Pointer | None, reason: str) -> None:
    name = before["version"] if before else None
    line = audit.entry(audit.UNDONE, name, failed["version"], reason) if name != failed["version"] else None
    if before:
        write_pointer({**before, **({"switched": line} if line else {})})
    else:
        pointer_path().unlink(missing_ok=True)
        sync(deploy_volume())
    if line:
        audit.append(line)


def _remember(pointer: Pointer) -> None:
    kept = {key: value for key, value in pointer.items() if key not in _OF_THE_SWITCH}
    path: Path = deploy_volume() / "versions" / f"{pointer['version']}.json"
    data = json.dumps(kept, indent=2, allow_nan=False).encode() + b"\n"
    with suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    write_atomically(path, io.BytesIO(data))


def _deployment() -> Any:
    """The Deployment that serves, if the settings name one."""
    environment = Environment()
    namespace, url = environment.serving_namespace, environment.serving_url
    if not namespace:
        return None
    if not url:
        raise StepError(
            f"SERVING_NAMESPACE is {namespace}, and SERVING_URL is not set: set it to where the Service answers, which "
            f"within the cluster is http://torchserve.{namespace}.svc:8080"
        )
    from steps.deploy.release.rollout import Rollout  # brings the Kubernetes client

    return Rollout(namespace, url)
