"""The errors a user may meet: each says the rule, the value found and what to do."""

from contract.errors import InputError


class StepError(InputError):
    """A step cannot go on; the message says why, and what to do."""


class DivergedError(StepError):
    """Training diverged, which other parameters may not."""
