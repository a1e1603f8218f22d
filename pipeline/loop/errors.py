"""The error of a decision in review."""

from contract.errors import InputError


class LabelError(InputError):
    """A decision that cannot be taken; the message says why, and nothing was changed."""
