"""Runs the pipeline on Kubeflow: reads the settings and the Git revision, writes a version and a run on the server."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api as api
from rich.console import Console

from pipeline import remote_run
from pipeline.images import references
from pipeline.job_summary import write_summary
from pipeline.kubeflow import Kubeflow, LoginError, TransientError
from pipeline.pipeline import arguments
from pipeline.registry import Registry
from pipeline.run import Outcome, RunError
from pipeline.settings import Params, Project, SettingsError
from steps.common.digest import STEPS


@dataclass(frozen=True)
class Submitted:
    """What a run on the server needs: ids of experiment, pipeline and version."""

    experiment_id: str
    reference: api.V2beta1PipelineVersionReference


def check_images(project: Project) -> None:
    """SettingsError if the registry lacks an image of a step, RegistryError if it does not say."""
    registry, images = Registry(project.registry), references(project)
    if missing := [images[step] for step in STEPS if not registry.has(images[step])]:
        raise SettingsError(f"the registry does not have {', '.join(missing)}: push what is missing with make push")


def upload(server: Kubeflow, project: Project, revision: str) -> Submitted:
    """The pipeline's version of this revision and the experiment, found or made."""
    experiment = server.experiment(project.name)
    pipeline = server.pipeline(project.name, project.title)
    with tempfile.TemporaryDirectory() as folder:

        def package() -> Path:
            from pipeline.compile import write_package

            write_package(project, Path(folder, "pipeline.yaml"))
            return Path(folder, "pipeline.yaml")

        version = server.version(pipeline, revision, package)
    return Submitted(experiment, api.V2beta1PipelineVersionReference(pipeline, version))


def submit(server: Kubeflow, project: Project, params: Params, revision: str) -> str:
    """Start a run of this revision; its id."""
    submitted = upload(server, project, revision)
    run = api.V2beta1Run(
        display_name=f"{project.name} {revision[:12]}",
        experiment_id=submitted.experiment_id,
        pipeline_version_reference=submitted.reference,
        runtime_config=api.V2beta1RuntimeConfig(parameters=arguments(project, params)),
        service_account=project.kubeflow.service_account,
    )
    return server.start(run)


def wait(server: Kubeflow, run_id: str, console: Console, *, poll: float, deadline: float) -> Outcome:
    """Follow a run to its end, a line a step; RunError if it fails, is stopped, or outlasts the deadline in seconds.

    Trouble that passes is waited out until the deadline; LoginError is not.
    """
    end, shown, trouble = time.monotonic() + deadline, dict[str, str](), ""
    while True:
        try:
            run, trouble = server.run(run_id), ""
        except TransientError as error:
            trouble = f"; {error}"
        except LoginError as error:
            raise RunError(f"{error}\nthe run goes on: {server.ui(run_id)}") from error
        else:
            _show(run, shown, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
            if run.state in remote_run.ENDED:
                return _close(server, run, console)
        if time.monotonic() + poll > end:
            running = [name for name, state in shown.items() if state not in remote_run.ENDED]
            raise RunError(
                f"the run has not ended within {deadline / 60:g} minutes{trouble}; it goes on, now in "
                f"{', '.join(running) or 'no step: kubectl get pods,pvc says what it waits for'}: {server.ui(run_id)}"
            )
        time.sleep(poll)


def _show(run: Any, shown: dict[str, str], say: Callable[[str], None]) -> None:
    for name, task in remote_run.steps(run).items():
        if task.state and shown.get(name) != task.state:
            shown[name] = task.state
            say(f"{name}: {task.state.lower()}")


def _close(server: Kubeflow, run: Any, console: Console) -> Outcome:
    if run.state != remote_run.SUCCEEDED:
        told = f"the run ended as {run.state}: {remote_run.failure(server, run)}\n{server.ui(run.run_id)}"
        write_summary(run, Outcome(run.state, told), {}, server.ui(run.run_id))
        raise RunError(told)
    outcome, events = remote_run.outcome(server, run)
    write_summary(run, outcome, events, server.ui(run.run_id))
    for name, event in events.items():
        made = f"unchanged, {event['made']}" if event["unchanged"] else event["made"]
        console.print(f"{name:<13} {made}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{'run':<13} {server.ui(run.run_id)}", markup=False, highlight=False, soft_wrap=True)
    return outcome
