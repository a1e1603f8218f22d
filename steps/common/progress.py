"""Says that a step starts and how it ends; on Kubeflow records the end on the model volume, for the run's report."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contract.environment import Environment
from contract.events import Failed, Finished, Started, emit, line
from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.volumes import model_volume


@contextmanager
def running(step: str) -> Iterator[None]:
    """Say that a step starts and, if it fails, why.

    Args:
        step: The step.

    Yields:
        Nothing.

    Raises:
        StepError: The step raised it.
    """
    emit(Started(step))
    try:
        yield
    except StepError as error:
        emit(Failed(str(error), step))
        raise
    except Exception as error:
        emit(Failed(f"{type(error).__name__}: {error}", step))
        raise


def finished(step: str, *, made: str, unchanged: bool, **more: Any) -> None:
    """Say what a step made, or found made already, and what it leaves to the next.

    Args:
        step: The step.
        made: What it made, in words.
        unchanged: Whether all of that was there before.
        **more: Other fields of `contract.events.Finished`.
    """
    event = Finished(step, made, unchanged, **more)
    emit(event)
    _record(event)


def _record(event: Finished) -> None:
    """Keep what a step of this run on Kubeflow said at its end, for the report."""
    if run := Environment().run_id:
        path = model_volume() / "runs" / run / f"{event.step}.json"
        write_atomically(path, io.BytesIO(line(event).encode()))
