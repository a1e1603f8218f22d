"""What several tests read and is long in the making: the workers of a run share it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


def made_once(
    factory: pytest.TempPathFactory, worker_id: str, name: str, make: Callable[[Path], Any]
) -> tuple[Path, Any]:
    """Make something in a folder of this name; the first worker that needs it does so, and the others wait.

    Returns:
        The folder, and what `make` returned, which has to be JSON.
    """
    if worker_id == "master":
        folder = factory.mktemp(name)
        return folder, make(folder)
    folder = factory.getbasetemp().parent / name
    told = folder.with_suffix(".json")
    with FileLock(folder.with_suffix(".lock")):
        if not told.exists():
            told.write_text(json.dumps(make(folder)))
        return folder, json.loads(told.read_text())
