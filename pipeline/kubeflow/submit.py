"""Runs the pipeline on Kubeflow: reads the settings and the Git revision, writes a version and a run on the server."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import kfp_server_api as api
import yaml
from rich.console import Console

from pipeline.images.build import missing, needed, references
from pipeline.kubeflow import cluster, watch
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.compile import write_package
from pipeline.kubeflow.errors import KubeflowError, TransientError
from pipeline.kubeflow.job_summary import write_summary
from pipeline.kubeflow.placement import check_placement, check_training
from pipeline.kubeflow.revision import branch
from pipeline.outcome import Outcome, RunError
from pipeline.pipeline import arguments
from pipeline.settings import Params, Project, SettingsError
from steps.common.digest import digest

_WAITING_SECONDS = 120.0  # without any pod that runs; between two steps it is seconds


@dataclass(frozen=True)
class Uploaded:
    """The ids of an experiment, and of a version of the pipeline, on the server."""

    experiment_id: str
    reference: api.V2beta1PipelineVersionReference


def check_images(project: Project) -> None:
    """Check that the registry holds every image of a run.

    Args:
        project: The project.

    Raises:
        SettingsError: An image is missing.
        RegistryError: The registry gives no answer.
    """
    if lacking := missing(project):
        images = references(project)
        names = ", ".join(images[name] for name in lacking)
        raise SettingsError(f"the registry lacks {names}: push what is missing with make push")


def check_cluster(server: Kubeflow, project: Project) -> None:
    """Check claims, nodes, and what a TrainJob needs; what this account may not see is not checked.

    Args:
        server: The server whose namespace the pods run in.
        project: The project, which names the claims and the nodes.

    Raises:
        SettingsError: A claim is missing or not bound, a step has no node, or its TrainJob cannot run.
    """
    with contextlib.suppress(cluster.KubectlError):
        cluster.check_claims(_namespace(server), project.kubeflow.claims.values())
    with contextlib.suppress(cluster.KubectlError):
        check_placement(_namespace(server), project)
    if project.kubeflow.trains_in_a_job:
        with contextlib.suppress(cluster.KubectlError):
            check_training(_namespace(server), project)


def upload(server: Kubeflow, project: Project, params: Params, revision: str) -> Uploaded:
    """Upload the pipeline as a version, unless the server has it.

    A version is named by the commit and the digest of the package, which names images, pods and parameters: what runs.

    Args:
        server: The server.
        project: The project, which names experiment and pipeline.
        params: The parameters of the runs.
        revision: The Git commit.

    Returns:
        The ids of experiment, pipeline and version.

    Raises:
        KubeflowError: The server refuses or does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "pipeline.yaml")
        write_package(project, package, arguments(project, params))  # first, since it may fail
        experiment = server.experiment(project.name)
        pipeline = server.pipeline(project.name, project.title)
        # As values: the order of keys, in which kfp writes defaults, differs from process to process.
        documents = list(yaml.safe_load_all(package.read_text(encoding="utf-8")))
        name = f"{revision}-{digest(documents)}"
        version = server.version(pipeline, name, package, _description(project, revision))
    return Uploaded(experiment, api.V2beta1PipelineVersionReference(pipeline, version))


def _description(project: Project, revision: str) -> str:
    images = references(project)
    return f"commit {revision}, branch {branch()}, images " + ", ".join(images[name] for name in needed(project))


def submit(server: Kubeflow, project: Project, params: Params, revision: str) -> str:
    """Start a run.

    Args:
        server: The server.
        project: The project.
        params: The parameters of the run.
        revision: The Git commit.

    Returns:
        The id of the run.

    Raises:
        KubeflowError: The server refuses or does not answer.
    """
    uploaded = upload(server, project, params, revision)
    run = api.V2beta1Run(
        display_name=f"{project.name} {revision[:12]}",
        experiment_id=uploaded.experiment_id,
        pipeline_version_reference=uploaded.reference,
        runtime_config=api.V2beta1RuntimeConfig(parameters=arguments(project, params)),
        service_account=project.kubeflow.account,
    )
    return server.start(run)


def wait(server: Kubeflow, run_id: str, console: Console, *, poll: float, deadline: float) -> Outcome:
    """Wait for the end of a run, and print each change of a step's state.

    Transient errors of the server are retried until the deadline.

    Args:
        server: The server.
        run_id: The run.
        console: Where states and results are printed.
        poll: Seconds between two requests.
        deadline: Seconds to wait.

    Returns:
        The outcome.

    Raises:
        RunError: The run failed, was stopped, or goes on after the deadline, or the token is no longer valid.
        KubeflowError: Its pods cannot start, so the run was stopped.
    """
    began = waiting_since = time.monotonic()
    states, outage, done = dict[str, str](), "", 0
    while True:
        try:
            run, outage = server.run(run_id), ""
        except TransientError as error:
            outage = f"; {error}"
        except KubeflowError as error:  # a login that ended, or what is no Kubeflow now
            raise RunError(f"{error}\nthe run goes on: {server.ui(run_id)}") from error
        else:
            _print_changes(run, states, lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
            if run.state in watch.ENDED:
                return _close(server, run, console)
            if not watch.is_waiting(run) or watch.pods_done(run) != done:
                waiting_since, done = time.monotonic(), watch.pods_done(run)
            elif node := watch.given_up(run):
                _stop(server, run_id, f"no pod of {node} starts, though it was tried as often as Kubeflow does")
        now = time.monotonic()
        if now + poll > began + deadline:
            if now - waiting_since >= min(_WAITING_SECONDS, deadline / 2) and not outage:
                step = _running(states) if watch.SUCCEEDED in states.values() else "the run"
                _stop(server, run_id, f"no pod of {step} has started within {deadline / 60:g} minutes")
            raise RunError(
                f"the run has not ended within {deadline / 60:g} minutes{outage}; it goes on, now in "
                f"{_running(states)}: {server.ui(run_id)}"
            )
        time.sleep(poll)


def _running(states: dict[str, str]) -> str:
    return ", ".join(name for name, state in states.items() if state not in watch.ENDED) or "no step"


def _stop(server: Kubeflow, run_id: str, why: str) -> NoReturn:
    """Stop a run whose pods cannot start."""
    told = _explain(server, run_id)  # before, since the pods go away
    with contextlib.suppress(KubeflowError):  # it may have ended just now
        server.stop(run_id)
    remedy = ""
    if not told:
        with contextlib.suppress(cluster.KubectlError):
            place = f"-n {_namespace(server)}"
            remedy = (
                f"see that the project's claims are bound (kubectl get pvc {place}; kubectl apply "
                f"-k infra/pv-pvc makes them) and what else the pods wait for (kubectl get pods,workflows {place})"
            )
    raise KubeflowError(f"{why}, so it was stopped: {told or remedy or 'make doctor may know why'}")


def _explain(server: Kubeflow, run_id: str) -> str:
    """What the cluster says of a run's pods; nothing without access to it."""
    with contextlib.suppress(cluster.KubectlError):
        return cluster.pod_troubles(_namespace(server), run_id)
    return ""


def _namespace(server: Kubeflow) -> str:
    return server.namespace or cluster.claims_namespace()


def _print_changes(run: Any, states: dict[str, str], write: Callable[[str], None]) -> None:
    for name, task in watch.steps(run).items():
        state = watch.state(run, task)
        if state and states.get(name) != state:
            states[name] = state
            write(f"{name}: {state.lower()}")


def _close(server: Kubeflow, run: Any, console: Console) -> Outcome:
    if run.state != watch.SUCCEEDED:
        failure = watch.failure(server, run, lambda: _explain(server, run.run_id))
        failure = f"the run ended as {run.state}: {failure}\n{server.ui(run.run_id)}"
        write_summary(run, Outcome(run.state, failure), watch.finished(server, run), server.ui(run.run_id))
        raise RunError(failure)
    outcome, events = watch.outcome(server, run)
    write_summary(run, outcome, events, server.ui(run.run_id))
    for name, event in events.items():
        made = f"unchanged, {event.made}" if event.unchanged else event.made
        console.print(f"{name:<13} {made}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{'run':<13} {server.ui(run.run_id)}", markup=False, highlight=False, soft_wrap=True)
    return outcome
