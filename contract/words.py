"""Words of messages."""


def counted(count: int, noun: str) -> str:
    """A number with its noun, which has an s unless there is one."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
