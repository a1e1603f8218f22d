"""The errors a user may meet: each says the rule, the value found and what to do."""


class StepError(Exception):
    """A step cannot go on, and its message tells the user why and what to do about it."""
