"""The recurring run, and the last runs: reads and writes them on the server."""

from collections.abc import Iterator
from typing import Any

import kfp_server_api as api

from pipeline.kubeflow import watch
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.submit import upload
from pipeline.pipeline import arguments
from pipeline.settings import Params, Project


def schedule(server: Kubeflow, project: Project, params: Params, revision: str, line: str) -> str:
    """Make the one recurring run what it should be; says what was done."""
    submitted = upload(server, project, revision)
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
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=line)),
    )
    if len(old) == 1 and _same(old[0], wanted):
        return "unchanged"
    server.start_recurring(wanted)  # the server has no way to change one; the new is there before the old goes
    for one in old:
        server.stop_recurring(one.recurring_run_id)
    return "updated" if old else "created"


def unschedule(server: Kubeflow, project: Project) -> int:
    """Remove the recurring run; how many there were."""
    old = server.recurring(project.name)
    for one in old:
        server.stop_recurring(one.recurring_run_id)
    return len(old)


def last_runs(server: Kubeflow, project: Project, count: int) -> Iterator[tuple[str, str, str, str]]:
    """The newest runs: when, name, word and reason."""
    experiment = server.find_experiment(project.name)
    for run in server.runs(experiment, count) if experiment else ():
        when = f"{run.created_at:%Y-%m-%d %H:%M}" if run.created_at else ""
        if run.state == watch.SUCCEEDED:
            ended, _ = watch.outcome(server, run)
            yield when, run.display_name, ended.word, ended.reason
        elif run.state == watch.FAILED:
            yield when, run.display_name, run.state, watch.failure(server, run)
        else:
            yield when, run.display_name, run.state or "PENDING", ""


def _same(old: Any, wanted: Any) -> bool:
    keys = ("pipeline_version_reference", "runtime_config", "trigger", "service_account", "no_catchup")
    enabled = old.status in (None, "ENABLED") and str(old.max_concurrency) == wanted.max_concurrency
    return enabled and all(_plain(getattr(old, key)) == _plain(getattr(wanted, key)) for key in keys)


def _plain(value: Any) -> Any:
    """What was set, without what was left out."""
    content = value.to_dict() if hasattr(value, "to_dict") else value
    return {k: _plain(v) for k, v in content.items() if v is not None} if isinstance(content, dict) else content
