"""How a run ends, wherever it runs: its word and reason, or the error that ended it."""

from dataclasses import dataclass


class RunError(Exception):
    """The pipeline could not be run to its end; the message says where, why and what to do."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the word that its last line begins with, and the reason."""

    word: str
    reason: str
