"""Finds in TorchServe's log why it does not serve; reads the log that server.py lets it write."""

import re
from pathlib import Path

# What the worker prints before it ends, and the frontend when it cannot read an archive.
_FAILURE = re.compile(r"Backend worker process died|Failed to load model|Invalid configuration|Failed to bind")
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\dT[\d:,]+ [A-Z]+ +\S+ - ")
_NOISE = re.compile(r"^\s+(at |\.\.\. \d+ more)|^WARNING: |^nvidia-smi not|^\s*$")
_LINES = 15


def failure(log: Path) -> bool:
    """Whether the log says that the model does not load."""
    return _FAILURE.search(_read(log)) is not None


def tail(log: Path) -> str:
    """The log's path and its last lines, without Java's traces and its warnings about itself."""
    lines = [_PREFIX.sub("", line) for line in _read(log).splitlines() if not _NOISE.match(line)]
    return "\n  ".join([f"the end of its log, {log}:", *lines[-_LINES:]])


def _read(log: Path) -> str:
    # A device, as in a container, cannot be read back: there the reader sees the log itself.
    return log.read_text(errors="replace") if log.is_file() else ""
