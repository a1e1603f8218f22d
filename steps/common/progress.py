"""How a step begins and ends: says so to whoever watches and, on Kubeflow, records it for the run's report."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steps.common.errors import StepError
from steps.common.events import event
from steps.common.files import write_atomically
from steps.common.volumes import model_volume


@contextmanager
def running(step: str) -> Iterator[None]:
    """Frame a step's work: say that it started, and, where it fails for a reason a user can mend, the reason."""
    event("started", step=step)
    try:
        yield
    except StepError as error:
        event("failed", step=step, error=str(error))
        raise
    except Exception as error:
        event("failed", step=step, error=f"{type(error).__name__}: {error}")
        raise


def finished(step: str, *, made: str, unchanged: bool, **facts: Any) -> None:
    """Say what a step made, or found made already, and what it leaves to the next."""
    event("finished", step=step, made=made, unchanged=unchanged, **facts)
    _record(step, facts)


def _record(step: str, facts: dict[str, Any]) -> None:
    """Keep what a step of this run said at its end, for the report."""
    if run := os.environ.get("RUN_ID"):
        path = model_volume() / "runs" / run / f"{step}.json"
        write_atomically(path, io.BytesIO(json.dumps(facts).encode()))
