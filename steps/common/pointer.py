"""The pointer to the model now served: reads and replaces `<deploy volume>/current.json`."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.volumes import deploy_volume

MODEL_STORE = "model-store"


def pointer_path() -> Path:
    """Where the pointer is."""
    return deploy_volume() / "current.json"


def read_pointer() -> dict[str, Any] | None:
    """What the pointer says; None if nothing was deployed yet; StepError if it is damaged."""
    path = pointer_path()
    try:
        pointer: dict[str, Any] = json.loads(path.read_text())
        for key in ("name", "version", "mar", "network", "index"):
            pointer[key] = str(pointer[key])
        for note in pointer.get("rolled_back", []):
            note.update({key: str(note[key]) for key in ("version", "network", "index", "at")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StepError(f"{path} cannot be read ({error!r}): restore it, or remove it to deploy anew") from error
    return pointer


def write_pointer(pointer: dict[str, Any]) -> None:
    """Replace the pointer by rename: a reader sees the old model or the new."""
    text = json.dumps(pointer, indent=2, allow_nan=False) + "\n"
    write_atomically(pointer_path(), io.BytesIO(text.encode()))


def rolled_back(pointer: Mapping[str, Any] | None, network: str, index: str, version: str = "") -> str | None:
    """Why this network and index, or this version of them, are not to be deployed: a person took them out of service.

    None if they may be. What is served now always may: its network and index can be those of another version that
    was rolled back.
    """
    served = (pointer["network"], pointer["index"]) if pointer else None
    for note in pointer.get("rolled_back", []) if pointer else ():
        same = (note["network"], note["index"]) == (network, index) != served
        if same or note["version"] == version:
            out = note["version"]
            return f"{out} was rolled back on {note['at']}: make rollback VERSION={out} puts it back"
    return None
