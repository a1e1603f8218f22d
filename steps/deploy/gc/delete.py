"""Deletes what a plan says: moves each folder away first, so that a killed gc leaves nothing half under its name."""

import os
import shutil
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from contract.files import sync
from steps.common import usage
from steps.common.store import MANIFEST
from steps.common.volumes import data_volume, model_volume
from steps.deploy.gc.artefacts import GONE
from steps.deploy.gc.plan import Item, Plan, plan
from steps.deploy.release import lock


def delete(keep_days: int) -> Plan:
    """Delete what nothing needs.

    What is served stays as it is meanwhile: the deploy volume is locked until everything is moved away.

    Args:
        keep_days: What a run of these last days used is kept.

    Returns:
        What was deleted, and what was kept.

    Raises:
        StepError: Nobody knows what is needed, since a file is damaged or a file system has no locks; or a volume
            cannot be written.
    """
    for volume in (data_volume(), model_volume()):
        with usage.exclusive(volume):  # refuses before anything is deleted
            pass
    moved: list[Path] = []
    deleted: list[Item] = []
    kept: list[Item] = []
    with lock.exclusive():
        decided = plan(keep_days)
        for item in decided.delete:
            if item.remove:
                deleted.append(item)
            elif gone := _moved_away(item):
                deleted.append(item)
                moved += [gone] if gone.exists() else []
            else:
                kept.append(replace(item, why="a run has begun to use it"))
    for folder in {path.parent for path in moved}:
        sync(folder)  # else a power failure could bring a name back, and what is deleted below it not
    for path in moved:
        shutil.rmtree(path, ignore_errors=True)
    for remove in dict.fromkeys(item.remove for item in deleted if item.remove):  # items may share one
        remove()
    return Plan(tuple(deleted), (*decided.keep, *kept))


def _moved_away(item: Item) -> Path | None:
    """Take away a file, or a folder's name; None if a run has begun to use it since the plan.

    Returns:
        Where it is now; a file is nowhere.
    """
    if item.stored is None:
        return _without_name(item.path)
    with usage.exclusive(item.stored.volume):
        manifest = item.path / MANIFEST
        with suppress(OSError):
            if manifest.stat().st_mtime_ns != item.stored.stamp and not item.stored.damaged:
                return None
        return _without_name(item.path)


def _without_name(path: Path) -> Path | None:
    hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}{GONE}{os.getpid()}-{time.time_ns()}")
    try:
        if not path.is_dir():
            path.unlink()
        elif hidden != path:
            path.rename(hidden)
    except FileNotFoundError:  # a run of this moment was faster, such as one that clears away what it left when killed
        return None
    return hidden
