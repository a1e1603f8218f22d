"""Checks what the first push needs: reads the settings, and asks Git, registry, Kubeflow and cluster."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from contract.errors import ProjectError
from contract.paths import ROOT
from pipeline.images.platforms import of_cluster
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.cluster import check_claims, check_gpus, check_processors, check_serving, claims_namespace
from pipeline.kubeflow.placement import check_placement, check_training
from pipeline.settings import Project, SettingsError, load_params, load_project

_SECONDS = 9.0  # for all checks, which run at once
_SECONDS_OF_AN_ANSWER = 6.0
_RETRIES = 1


class Check(NamedTuple):
    """The result of one check: its name, what was found or is to do, and whether it passed."""

    name: str
    found: str
    passed: bool


def examine(project: Path, params: Path, host: str | None, token: str | None, namespace: str | None) -> Iterator[Check]:
    """Check everything that the first push needs; without a valid project, only the settings.

    Args:
        project: The path of `project.yaml`.
        params: The path of `params.yaml`.
        host: The address of the Kubeflow server.
        token: Its bearer token.
        namespace: The user's namespace on a multi-user server.

    Yields:
        The result of each check, in the same order each time.
    """
    settings: list[Project] = []

    def read_project() -> str:
        settings.append(load_project(project))
        return f"{project} is right: {settings[0].name}"

    def read_params() -> str:
        load_params(params)
        return f"{params} is right"

    yield _check(str(project), read_project)
    yield _check(str(params), read_params)
    if not settings:
        return
    yield from _at_once(_checks(settings[0], host, token, namespace))


def _checks(
    project: Project, host: str | None, token: str | None, namespace: str | None
) -> dict[str, Callable[[], str]]:
    """The checks of a valid project, by name."""
    kubeflow = project.kubeflow
    checks = {
        "torch": _torch,
        "revision": _revision,
        "engine": _engine,
        "images": lambda: _images(project),
        "Kubeflow": lambda: _kubeflow(host, token, namespace),
        "claims": lambda: check_claims(claims_namespace(), kubeflow.claims.values()),
        "nodes": lambda: check_placement(claims_namespace(), project),
        "processors": lambda: check_processors(of_cluster(project), kubeflow.node_selector),
    }
    if serving := kubeflow.serving_namespace:
        checks["manifests"] = lambda: _manifests(project)
        checks["serving"] = lambda: check_serving(serving, kubeflow.serving)
    if kubeflow.trains_in_a_job:
        checks["training"] = lambda: check_training(claims_namespace(), project)
    if kubeflow.gpus:
        checks["GPU"] = lambda: check_gpus(kubeflow.gpus, kubeflow.selector("train"))
    return checks


def _at_once(checks: Mapping[str, Callable[[], str]]) -> Iterator[Check]:
    """Run all checks at once, and yield their results in order; one that takes too long has failed."""
    results: dict[str, Check] = {}

    def run(name: str, find: Callable[[], str]) -> None:
        results[name] = _check(name, find)

    # As daemons, so that one that hangs holds nobody up.
    threads = [Thread(target=run, args=pair, daemon=True) for pair in checks.items()]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _SECONDS
    for name, thread in zip(checks, threads, strict=True):
        thread.join(max(0.0, end - time.monotonic()))
        yield results.get(name) or Check(
            name, f"no answer within {_SECONDS:g} seconds: see that it can be reached", False
        )


def _check(name: str, find: Callable[[], str]) -> Check:
    try:
        return Check(name, find(), True)
    except ProjectError as error:
        return Check(name, str(error), False)
    except Exception as error:  # the other checks go on
        return Check(name, f"could not be checked ({type(error).__name__}: {error})", False)


def _torch() -> str:
    """The build that is installed here, and why."""
    from importlib.metadata import version

    from install import environment, torch

    stamp, found = environment.read_stamp(), version("torch")
    if not environment.whole(stamp):
        return f"{found}, which make install did not install"
    return torch.told(stamp["choice"], stamp["build"], found)


def _revision() -> str:
    from pipeline.kubeflow.revision import revision

    return f"{revision()[:12]}, with nothing uncommitted"


def _engine() -> str:
    from pipeline.images.docker import Docker, DockerMissingError

    try:
        return f"{Docker().program} answers"
    except DockerMissingError as error:
        return f"{str(error).split('. ')[0]}, by make images, make push and RUNNER=docker alone"


def _images(project: Project) -> str:
    from pipeline.images.build import missing

    if lacking := missing(project, retries=_RETRIES, seconds=_SECONDS_OF_AN_ANSWER):
        return f"{project.registry} answers; it lacks {', '.join(lacking)}, which make push pushes"
    return f"{project.registry} has every image"


def _manifests(project: Project) -> str:
    """Whether infra/torchserve names the images that a push would bring."""
    from pipeline.images.kustomization import stale

    if files := stale(project):
        names = ", ".join(str(path.relative_to(ROOT)) for path in files)
        raise SettingsError(
            f"{names} names other images than those of {project.registry}/{project.name}, or objects of another prefix "
            "than kubeflow.name_prefix: make pin"
        )
    return "infra/torchserve names the images of this revision"


def _kubeflow(host: str | None, token: str | None, namespace: str | None) -> str:
    server = Kubeflow(host, token, namespace, retries=_RETRIES, seconds=_SECONDS_OF_AN_ANSWER)
    server.check()
    if server.namespace and server.namespace != claims_namespace():
        raise SettingsError(
            f"pods would run in namespace {server.namespace}, and infra/pv-pvc makes their claims in "
            f"{claims_namespace()}: set KFP_NAMESPACE and namespace= in infra/pv-pvc/kustomization.yaml to the same"
        )
    scope = f"namespace {server.namespace}" if server.namespace else "single-user, without namespaces"
    return f"{server.host} accepts this token ({scope})"
