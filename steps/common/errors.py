"""The errors a user may meet: each says the rule, the value found and what to do."""


class StepError(Exception):
    """A step cannot go on; the message says why, and what to do."""
