"""How a run ends, wherever it runs: an outcome, or an error."""

from dataclasses import dataclass

from contract.errors import ProjectError


class RunError(ProjectError):
    """A run failed; the message says in which step, why and what to do."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: DEPLOYED, UNCHANGED or REJECTED, and the reason."""

    word: str
    reason: str

    def __str__(self) -> str:
        """The last line of a run."""
        return f"{self.word} {self.reason}"
