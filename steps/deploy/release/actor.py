"""Who changes what is served, and when, as the journal tells it."""

import getpass
import os
import socket
from datetime import UTC, datetime

from contract.environment import Environment


def now() -> str:
    """The time in UTC, as it stands in every file of the deploy volume."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """The run on Kubeflow, or the person."""
    if run := Environment().run_id:
        return run
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as a container may have
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
