"""How much of what clients send is kept, and how long: read from params.yaml, and from the variable SERVING_COLLECT."""

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contract.errors import InputError

VARIABLE = "SERVING_COLLECT"
_MB = 1_000_000

_Share = Annotated[float, Field(ge=0, le=1)]
_Count = Annotated[int, Field(ge=1)]


class Limits(BaseModel):
    """What is kept. Its text, for the environment, is `share=0.01,near=0.1,max_mb=500,max_days=30`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    share: _Share = Field(
        default=0.01, description="of the requests, drawn at random, whose images are kept whatever the answer"
    )
    near: _Share = Field(
        default=0.1, description="the part below its threshold in which a distance is near it: 0.1 is its last tenth"
    )
    max_mb: _Count = Field(default=500, description="of the store; the least informative and oldest images go first")
    max_days: _Count = Field(default=30, description="for which an image is kept")

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Read the limits from their text.

        Args:
            text: Pairs of a name and a value, with commas between them; what is left out has its default.

        Returns:
            The limits.

        Raises:
            InputError: The text is wrong.
        """
        try:
            return cls.model_validate(dict(map(_pair, text.split(","))))
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        except ValueError as error:
            problem = str(error)
        raise InputError(
            f"{VARIABLE} is {text!r} ({problem}): give limits such as {Limits().text()}, or none to keep no images"
        ) from None

    def text(self) -> str:
        """The limits as a text that `parsed` reads."""
        return ",".join(f"{name}={value}" for name, value in self.model_dump().items() if name in Limits.model_fields)

    @property
    def max_bytes(self) -> int:
        """`max_mb` in bytes."""
        return self.max_mb * _MB

    def for_workers(self, folder: Path) -> str:
        """What serving/model/collector.py reads: the store's folder, and what of the limits a worker needs, as JSON."""
        return json.dumps({"folder": str(folder.absolute()), "share": self.share, "near": self.near})

    def said(self, folder: Path) -> str:
        """What a server says when it starts."""
        drawn = f", and those of {100 * self.share:.3g} % of all requests" if self.share else ""
        return (
            f"images that clients send are kept in {folder}: those called unknown or nearly so{drawn}; "
            f"{self.max_mb} MB and {self.max_days} days at most (docs/loop.md)"
        )


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"{text.strip()!r} has no value")
    return name.strip(), value.strip()
