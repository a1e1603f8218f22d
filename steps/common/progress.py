"""What a step tells whoever watches: writes one JSON object a line to standard output.

In Kubernetes these lines are the pod's log; on one machine the pipeline's command turns them into progress bars
and the closing table.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from steps.common.errors import StepError


def event(kind: str, **fields: Any) -> None:
    """Write one event."""
    print(json.dumps({"event": kind, **fields}), flush=True)


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
    from steps.common.report import record  # which writes by the store, which tells its events here

    record(step, facts)
