"""The pointer to the model now served: reads and replaces `<deploy volume>/current.json`."""

import io
import json
from pathlib import Path
from typing import Any

from steps.common.errors import StepError
from steps.common.store import write_atomically
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
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StepError(f"{path} cannot be read ({error!r}): restore it, or remove it to deploy anew") from error
    return pointer


def write_pointer(pointer: dict[str, Any]) -> None:
    """Replace the pointer by rename: a reader sees the old model or the new."""
    text = json.dumps(pointer, indent=2, allow_nan=False) + "\n"
    write_atomically(pointer_path(), io.BytesIO(text.encode()))
