"""Reads the pointer to the current version, `<deploy volume>/current.json`, for the steps."""

import json
from typing import Any

from contract import pointer
from contract.files import read_text
from contract.pointer import Pointer
from steps.common.errors import StepError
from steps.common.volumes import deploy_volume


def read_pointer() -> Pointer | None:
    """The pointer, None if nothing was deployed yet; StepError if it cannot be read or is damaged."""
    return read_pointer_file()[0]


def read_pointer_file() -> tuple[Pointer | None, dict[str, Any]]:
    """The pointer and all of its JSON, which is empty if nothing was deployed yet; errors are those of read_pointer."""
    path = pointer.pointer_path(deploy_volume())
    try:
        content: dict[str, Any] = json.loads(read_text(path))
        return Pointer.parsed(content, needs=["network", "index"]), content
    except FileNotFoundError:
        return None, {}
    except (OSError, *pointer.DAMAGE) as error:
        raise StepError(f"{path} cannot be read ({error!r}): restore it, or remove it to deploy anew") from error
