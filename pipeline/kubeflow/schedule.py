"""The recurring run and the last runs: reads and writes them on the server."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import kfp_server_api as api

from contract.errors import ProjectError
from pipeline.kubeflow import watch
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.errors import KubeflowError
from pipeline.kubeflow.submit import upload
from pipeline.pipeline import arguments
from pipeline.settings import Params, Project

_STOP_SECONDS = 300.0  # within which a run that is stopped has ended
_POLL_SECONDS = 2.0  # between two looks at it


class ScheduledRunError(ProjectError):
    """A run of the schedule is in progress; the message says what to do."""


def schedule(server: Kubeflow, project: Project, params: Params, revision: str, cron: str) -> str:
    """Create or change the one recurring run of the project.

    Args:
        server: The server.
        project: The project; the recurring run has its name.
        params: The parameters of the runs.
        revision: The Git commit.
        cron: The cron expression, with six fields.

    Returns:
        "created", "updated" or "unchanged".

    Raises:
        KubeflowError: The server refuses or does not answer.
    """
    submitted = upload(server, project, params, revision)
    old = server.recurring(project.name)
    wanted = api.V2beta1RecurringRun(
        display_name=project.name,
        description=f"revision {revision}",
        experiment_id=submitted.experiment_id,
        pipeline_version_reference=submitted.reference,
        runtime_config=api.V2beta1RuntimeConfig(parameters=arguments(project, params)),
        service_account=project.kubeflow.account,
        max_concurrency="1",
        no_catchup=True,
        mode="ENABLE",
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
    )
    same = next((each for each in old if _same(each, wanted)), None)
    others = [each for each in old if each is not same]
    if same is None:
        server.start_recurring(wanted)  # the API cannot update one, so create the new before removing the old
    for each in others:
        _remove(server, each, now=False)  # one with a run in progress is disabled, and removed by the next call
    if same is not None:
        return "unchanged"
    return "updated" if old else "created"


def unschedule(server: Kubeflow, project: Project, *, now: bool = False) -> int:
    """Delete the recurring run of the project.

    Args:
        server: The server.
        project: The project.
        now: Stop its run in progress first.

    Returns:
        The number of recurring runs deleted.

    Raises:
        ScheduledRunError: A run of it is in progress, so it is disabled only.
        KubeflowError: The server refuses or does not answer.
    """
    old = server.recurring(project.name)
    running = [run for each in old for run in _remove(server, each, now=now)]
    if running:
        raise ScheduledRunError(
            f"no further run starts, but one is in progress, and to remove its schedule would delete its pods: "
            f"{', '.join(map(server.ui, running))}; make unschedule again when it has ended, or make unschedule NOW=1, "
            "which stops it"
        )
    return len(old)


def _remove(server: Kubeflow, recurring: Any, *, now: bool) -> list[str]:
    """Delete a recurring run, and return nothing; while runs of it are in progress, disable it and return their ids."""
    # Kubernetes deletes a run's workflow with the recurring run that owns it, and then the run never ends.
    id = recurring.recurring_run_id
    server.disable_recurring(id)  # first, so that no run starts between the look and the deletion
    running = server.runs_in_progress(recurring.experiment_id, id)
    if running and not now:
        return running
    for run in running:
        with contextlib.suppress(KubeflowError):  # it has just ended, or its workflow is gone and it never will
            server.stop(run)
    end = time.monotonic() + _STOP_SECONDS
    while server.runs_in_progress(recurring.experiment_id, id) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    server.stop_recurring(id)
    return []


def last_runs(server: Kubeflow, project: Project, count: int) -> Iterator[tuple[str, str, str, str]]:
    """List the last runs.

    Args:
        server: The server.
        project: The project.
        count: The most runs to list.

    Yields:
        Time (UTC), name, outcome or state, and reason of each run, the newest first.

    Raises:
        KubeflowError: The server refuses or does not answer.
    """
    experiment = server.find_experiment(project.name)
    for run in server.runs(experiment, count) if experiment else ():
        when = f"{run.created_at:%Y-%m-%d %H:%M}" if run.created_at else ""
        if run.state == watch.SUCCEEDED:
            outcome, _ = watch.outcome(server, run)
            yield when, run.display_name, outcome.word, outcome.reason
        elif run.state == watch.FAILED:
            yield when, run.display_name, run.state, watch.failure(server, run)
        else:
            yield when, run.display_name, run.state or "PENDING", ""


def _same(old: Any, wanted: Any) -> bool:
    keys = ("pipeline_version_reference", "runtime_config", "trigger", "service_account", "no_catchup")
    enabled = old.status in (None, "ENABLED") and str(old.max_concurrency) == wanted.max_concurrency
    return enabled and all(_plain(getattr(old, key)) == _plain(getattr(wanted, key)) for key in keys)


def _plain(value: Any) -> Any:
    """The fields that are set, as a dictionary."""
    content = value.to_dict() if hasattr(value, "to_dict") else value
    return {k: _plain(v) for k, v in content.items() if v is not None} if isinstance(content, dict) else content
