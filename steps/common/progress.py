"""Says that a step starts and how it ends; on Kubeflow records both on the model volume, for the run's report."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from contract.environment import Environment
from contract.errors import InputError
from contract.events import Failed, Finished, Settled, Started, Warned, emit, to_json
from steps.common.files import readable_by_all, write_atomically
from steps.common.volumes import model_volume

SETTLED = "settled"  # the name of the record that nothing is to be done


@contextmanager
def running(step: str, record: str = "") -> Iterator[None]:
    """Say that a step starts and, if it fails, why; what it writes in between, others may read and not change.

    Args:
        step: The step.
        record: The name of its record, where several pods run it at once; by default the step's.

    Yields:
        Nothing.

    Raises:
        InputError: The step raised it.
    """
    with readable_by_all():
        _tell(Started(step), record)
        try:
            yield
        except InputError as error:
            _tell(Failed(str(error), step), record)
            raise
        except Exception as error:
            _tell(Failed(f"{type(error).__name__}: {error}", step), record)
            raise


def finished(step: str, *, made: str, unchanged: bool, record: str = "", **more: Any) -> None:
    """Say what a step made, or found made already, and what it leaves to the next.

    Args:
        step: The step.
        record: As for `running`.
        made: What it made, in words.
        unchanged: Whether all of that was there before.
        **more: Other fields of `contract.events.Finished`.
    """
    event = Finished(step, made, unchanged, **more)
    emit(event)
    _record(event, record or step)


def settled(step: str, outcome: str) -> None:
    """Say that nothing is to be done in this run.

    Args:
        step: The step.
        outcome: How the run ends, word and reason.
    """
    event = Settled(outcome, step)
    emit(event)
    _record(event, SETTLED)


def record_path(run: str, name: str) -> Path:
    """Where a run on Kubeflow keeps what a step said last, or `SETTLED`."""
    return model_volume() / "runs" / run / f"{name}.json"


def _tell(event: Started | Failed, record: str) -> None:
    emit(event)
    try:
        _record(event, record or event.step)
    except Exception as error:  # a report that lacks something must not fail the step, or hide why it failed
        emit(Warned(f"the report of this run will lack it: {error}", event.step))


def _record(event: Started | Failed | Finished | Settled, name: str) -> None:
    """Keep what a step of this run on Kubeflow said, for the report."""
    if run := Environment().run_id:
        write_atomically(record_path(run, name), io.BytesIO(to_json(event).encode()))
