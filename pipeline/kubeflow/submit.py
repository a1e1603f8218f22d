"""Runs the pipeline on Kubeflow: reads the settings and the Git revision, writes a version and a run on the server."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import kfp_server_api as api
from rich.console import Console

from pipeline.images.build import needed, references
from pipeline.images.registry import Registry
from pipeline.kubeflow import cluster, watch
from pipeline.kubeflow.client import Kubeflow, KubeflowError, LoginError, TransientError
from pipeline.kubeflow.compile import CLAIMS, write_package
from pipeline.kubeflow.job_summary import write_summary
from pipeline.outcome import Outcome, RunError
from pipeline.pipeline import arguments
from pipeline.settings import Params, Project, SettingsError


@dataclass(frozen=True)
class Submitted:
    """What a run on the server needs: ids of experiment, pipeline and version."""

    experiment_id: str
    reference: api.V2beta1PipelineVersionReference


def check_images(project: Project) -> None:
    """SettingsError if the registry lacks an image that the run needs, RegistryError if it does not say."""
    registry, images = Registry(project.registry), references(project)
    if missing := [images[name] for name in needed(project) if not registry.has(images[name])]:
        raise SettingsError(f"the registry does not have {', '.join(missing)}: push what is missing with make push")


def check_claims(server: Kubeflow) -> None:
    """SettingsError if a claim is not bound; nothing where kubectl cannot ask, as where it knows no cluster."""
    with contextlib.suppress(cluster.KubectlError):
        cluster.check_claims(server.namespace or cluster.claims_namespace())


def upload(server: Kubeflow, project: Project, revision: str) -> Submitted:
    """The pipeline's version of this revision and the experiment, found or made."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "pipeline.yaml")
        write_package(project, package)  # before anything is made: it may fail
        experiment = server.experiment(project.name)
        pipeline = server.pipeline(project.name, project.title)
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

    Trouble that passes is waited out until the deadline; LoginError is not. A run none of whose pods has started by the
    deadline is stopped, with KubeflowError: nobody waits for it any more, and nothing of it was done.
    """
    end, shown, trouble, begun = time.monotonic() + deadline, dict[str, str](), "", False
    while True:
        try:
            run, trouble = server.run(run_id), ""
        except TransientError as error:
            trouble = f"; {error}"
        except LoginError as error:
            raise RunError(f"{error}\nthe run goes on: {server.ui(run_id)}") from error
        else:
            begun = begun or watch.begun(run)
            _show(run, shown, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
            if run.state in watch.ENDED:
                return _close(server, run, console)
        if time.monotonic() + poll > end:
            if not begun and not trouble:
                _give_up(server, run_id, deadline)
            running = [name for name, state in shown.items() if state not in watch.ENDED]
            raise RunError(
                f"the run has not ended within {deadline / 60:g} minutes{trouble}; it goes on, now in "
                f"{', '.join(running) or 'no step'}: {server.ui(run_id)}"
            )
        time.sleep(poll)


def _give_up(server: Kubeflow, run_id: str, deadline: float) -> NoReturn:
    server.stop(run_id)
    where = ""
    with contextlib.suppress(cluster.KubectlError):
        where = f" -n {server.namespace or cluster.claims_namespace()}"
    raise KubeflowError(
        f"no pod of the run has started within {deadline / 60:g} minutes, so it was stopped: see that the claims "
        f"{', '.join(CLAIMS.values())} are bound (kubectl get pvc{where}; kubectl apply -k infra/pv-pvc makes them) "
        f"and what else the pods wait for (kubectl get pods{where})"
    )


def _show(run: Any, shown: dict[str, str], say: Callable[[str], None]) -> None:
    for name, task in watch.steps(run).items():
        state = watch.state(run, task)
        if state and shown.get(name) != state:
            shown[name] = state
            say(f"{name}: {state.lower()}")


def _close(server: Kubeflow, run: Any, console: Console) -> Outcome:
    if run.state != watch.SUCCEEDED:
        told = f"the run ended as {run.state}: {watch.failure(server, run)}\n{server.ui(run.run_id)}"
        write_summary(run, Outcome(run.state, told), {}, server.ui(run.run_id))
        raise RunError(told)
    outcome, events = watch.outcome(server, run)
    write_summary(run, outcome, events, server.ui(run.run_id))
    for name, event in events.items():
        made = f"unchanged, {event.made}" if event.unchanged else event.made
        console.print(f"{name:<13} {made}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{'run':<13} {server.ui(run.run_id)}", markup=False, highlight=False, soft_wrap=True)
    return outcome
