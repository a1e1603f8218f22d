"""What was found when served images were compared with those of test: `drift.json` beside the collected images.

`make drift` and the CronJob write it, and the server's metrics tell it.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

from contract.files import replace
from contract.pointer import DAMAGE

FILE = "drift.json"


class Word(IntEnum):
    """What is to be done, as the metric `serving_drift` has it; its text is that of the file."""

    NONE = 0
    WATCH = 1
    RETRAIN = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One comparison.

    Attributes:
        at: When, ISO 8601 in UTC.
        version: The version whose answers were compared.
        word: The text of a Word.
        why: A sentence.
        images: How many served images were compared.
        source: Where their answers come from: `collected` or `metrics`.
        since: When the oldest of them was answered, ISO 8601; None if that is not known.
        effects: The size of each difference, by what was compared.
    """

    at: str
    version: str
    word: str
    why: str
    images: int
    source: str
    since: str | None
    effects: Mapping[str, float]

    @classmethod
    def parsed(cls, content: Mapping[str, Any]) -> Self:
        """Read a comparison from JSON; one of `DAMAGE` if it is damaged.

        Args:
            content: The JSON object.

        Returns:
            The comparison.

        Raises:
            ValueError: It is damaged.
        """
        found = cls(**content)
        if found.word not in map(str, Word):
            raise ValueError(f"{found.word!r} is none of {', '.join(map(str, Word))}")
        datetime.fromisoformat(found.at)
        effects = {str(name): float(effect) for name, effect in found.effects.items()}
        return cls(**{**content, "images": int(found.images), "effects": effects})

    @property
    def level(self) -> int:
        """The word as a number: 0, 1 or 2."""
        return Word[self.word.upper()]


def write(folder: Path, drift: Drift) -> None:
    """Replace the file by rename.

    Args:
        folder: The folder of the collected images; it is made if it is not there.
        drift: The comparison.

    Raises:
        OSError: It cannot be written.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    replace(folder / FILE, io.BytesIO(json.dumps(asdict(drift), indent=2, allow_nan=False).encode() + b"\n"))


def read(folder: Path) -> Drift | None:
    """The last comparison; None if there is none, or a damaged one."""
    try:
        return Drift.parsed(json.loads((folder / FILE).read_bytes()))
    except (OSError, *DAMAGE):
        return None
