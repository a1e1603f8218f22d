"""Remembers which splits a source led to: reads and replaces `<data volume>/cache/unchanged.json`.

A source that is as it was then leads to the same splits, without a look at each image. The file may be deleted at any
time.
"""

import hashlib
import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from steps.common.digest import digest
from steps.common.errors import StepError
from steps.common.files import write_atomically


@dataclass(frozen=True)
class Outcome:
    """The ids of the splits, what was said of their images, and stamps of the files beside that it depends on."""

    splits: dict[str, str]
    warnings: list[str]
    stamps: dict[str, Any]


class Unchanged:
    """The outcome for a source and all that decides it.

    Args:
        path: The file.
        decides: A JSON value of everything else that decides the outcome: parameters, code, and libraries.
    """

    def __init__(self, path: Path, decides: Any) -> None:
        self._path = path
        self._program = digest([decides, _program()])

    def outcome(self, fingerprint: str) -> Outcome | None:
        """What a source with this fingerprint led to; None if that is not known."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if found.pop("of") == [self._program, fingerprint]:
                return Outcome(**found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            pass
        return None

    def keep(self, fingerprint: str, outcome: Outcome) -> None:
        """Remember an outcome; what goes wrong costs time and nothing else."""
        text = json.dumps({"of": [self._program, fingerprint], **asdict(outcome)}, ensure_ascii=False)
        with suppress(StepError, OSError):
            write_atomically(self._path, io.BytesIO(text.encode()))


def _program() -> str:
    """The digest of this step's files: they decide how images are planned."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
