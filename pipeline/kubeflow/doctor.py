"""Checks what the first push needs: reads the settings, and asks Git, registry, Kubeflow and cluster."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from contract.errors import ProjectError
from contract.paths import ROOT
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.cluster import check_claims, check_gpus, check_serving, claims_namespace
from pipeline.settings import Project, SettingsError, load_params, load_project


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
        The result of each check, as soon as it is known.
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
    kubeflow = settings[0].kubeflow
    yield _check("torch", _torch)
    yield _check("revision", _revision)
    yield _check("images", lambda: _images(settings[0]))
    yield _check("Kubeflow", lambda: _kubeflow(host, token, namespace))
    yield _check("claims", lambda: check_claims(claims_namespace(), kubeflow.claims.values()))
    if serving := kubeflow.serving_namespace:
        yield _check("manifests", lambda: _manifests(settings[0]))
        yield _check("serving", lambda: check_serving(serving))
    if kubeflow.gpus:
        yield _check("GPU", lambda: check_gpus(kubeflow.gpus, kubeflow.node_selector))


def _check(name: str, find: Callable[[], str]) -> Check:
    try:
        return Check(name, find(), True)
    except ProjectError as error:
        return Check(name, str(error), False)


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


def _images(project: Project) -> str:
    from pipeline.images.build import needed, references
    from pipeline.images.registry import Registry

    registry, images = Registry(project.registry), references(project)
    missing = [name for name in needed(project) if not registry.has(images[name])]
    if missing:
        return f"{project.registry} answers; it lacks {', '.join(missing)}, which make push pushes"
    return f"{project.registry} has every image"


def _manifests(project: Project) -> str:
    """Whether infra/torchserve names the images that a push would bring."""
    from pipeline.images.kustomization import stale

    if files := stale(project):
        names = ", ".join(str(path.relative_to(ROOT)) for path in files)
        raise SettingsError(f"{names} names other images than those of {project.registry}/{project.name}: make pin")
    return "infra/torchserve names the images of this revision"


def _kubeflow(host: str | None, token: str | None, namespace: str | None) -> str:
    server = Kubeflow(host, token, namespace)
    server.check()
    if server.namespace and server.namespace != claims_namespace():
        raise SettingsError(
            f"pods would run in namespace {server.namespace}, and infra/pv-pvc makes their claims in "
            f"{claims_namespace()}: set KFP_NAMESPACE and namespace= in infra/pv-pvc/kustomization.yaml to the same"
        )
    scope = f"namespace {server.namespace}" if server.namespace else "single-user, without namespaces"
    return f"{server.host} accepts this token ({scope})"
