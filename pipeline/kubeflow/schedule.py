"""The recurring run and the last runs: reads and writes them on the server."""

from collections.abc import Iterator
from typing import Any

import kfp_server_api as api

from pipeline.kubeflow import watch
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.submit import upload
from pipeline.pipeline import arguments
from pipeline.settings import Params, Project


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
        service_account=project.kubeflow.service_account,
        max_concurrency="1",
        no_catchup=True,
        mode="ENABLE",
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
    )
    if len(old) == 1 and _same(old[0], wanted):
        return "unchanged"
    server.start_recurring(wanted)  # the API cannot update one, so create the new before deleting the old
    for each in old:
        server.stop_recurring(each.recurring_run_id)
    return "updated" if old else "created"


def unschedule(server: Kubeflow, project: Project) -> int:
    """Delete the recurring run of the project.

    Args:
        server: The server.
        project: The project.

    Returns:
        The number of recurring runs deleted.

    Raises:
        KubeflowError: The server refuses or does not answer.
    """
    old = server.recurring(project.name)
    for each in old:
        server.stop_recurring(each.recurring_run_id)
    return len(old)


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
