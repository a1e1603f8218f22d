"""How the last run ended: `settled.json` on the model volume. A run of the same work ends likewise, and at once.

The record holds as long as the deploy volume is as that run left it, and what the run made is still there.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract.journal import journal_path
from contract.pointer import MODEL_STORE, pointer_path
from steps.common import progress
from steps.common.digest import digest, file_sha256
from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.pointer import read_pointer
from steps.common.store import find
from steps.common.volumes import deploy_volume, model_volume


def work_of(code: str, parameters: Any, inputs: Any) -> str:
    """The name of a run's work.

    Args:
        code: A digest of the steps' images; empty if none is known, and then the work has no name.
        parameters: The parameters of all steps, as JSON values.
        inputs: The ids of the splits.

    Returns:
        A digest of the three, or nothing.
    """
    return digest({"code": code, "parameters": parameters, "inputs": inputs}) if code else ""


def remember(work: str, outcome: str, made: Mapping[str, str]) -> None:
    """Record how a run ended.

    Args:
        work: The name of its work; nothing is recorded without one.
        outcome: How the next run of this work ends, word and reason.
        made: The ids of the results on the model volume that it rests on, by their kinds.

    Raises:
        StepError: The volume is full or cannot be written.
    """
    if work:
        record = {"work": work, "outcome": outcome, "made": dict(made), "served": _served()}
        write_atomically(_path(), io.BytesIO(json.dumps(record).encode()))


def recall(work: str, step: str) -> bool:
    """Whether nothing is to be done, since the last run had the same work; and say so.

    Args:
        work: The name of this run's work.
        step: The step that asks.

    Returns:
        True if that run's results are there, and nothing was deployed or rolled back since.
    """
    try:
        record = json.loads(_path().read_text()) if work else {}
        known = record.get("work") == work != "" and record["served"] == _served() and _is_there(record["made"])
        outcome = str(record["outcome"]) if known else ""
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StepError):
        return False
    if outcome:
        progress.settled(step, outcome)
    return bool(outcome)


def _path() -> Path:
    return model_volume() / "settled.json"


def _served() -> list[str]:
    """What the deploy volume says: digests of the journal, to which each switch appends, and of the pointer."""
    paths = (journal_path(deploy_volume()), pointer_path(deploy_volume()))
    return [file_sha256(path) if path.is_file() else "" for path in paths]


def _is_there(made: Mapping[str, str]) -> bool:
    served = read_pointer()
    archive = served is None or (deploy_volume() / MODEL_STORE / served.mar).is_file()
    return archive and all(find(model_volume(), kind, id) for kind, id in made.items())
