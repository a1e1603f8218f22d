"""What can be checked before the first push, a line each: ok, or what to do. Reads settings, servers, the cluster."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pipeline.kubeflow.client import Kubeflow, KubeflowError
from pipeline.kubeflow.cluster import UnknownError, check_claims, check_gpus, check_serving, namespace
from pipeline.settings import Project, SettingsError, load_params, load_project


def examine(project: Path, params: Path, server: Mapping[str, str | None]) -> Iterator[tuple[str, str, bool]]:
    """Each check's name, what it found, and whether that is well; what depends on a failed one is not checked."""
    settings: list[Project] = []

    def read() -> str:
        settings.append(load_project(project))
        return f"{project} is right: {settings[0].name}"

    def read_params() -> str:
        load_params(params)
        return f"{params} is right"

    yield _line(str(project), read)
    yield _line(str(params), read_params)
    if not settings:
        return
    one = settings[0]
    yield _line("revision", _revision)
    yield _line("images", lambda: _images(one))
    yield _line("Kubeflow", lambda: _kubeflow(server))
    yield _line("claims", lambda: check_claims(namespace()))
    if place := one.kubeflow.serving_namespace:
        yield _line("serving", lambda: check_serving(place))
    if one.kubeflow.gpus:
        yield _line("GPU", lambda: check_gpus(one.kubeflow.gpus, one.kubeflow.node_selector))


def _line(name: str, check: Callable[[], str]) -> tuple[str, str, bool]:
    from pipeline.images.registry import RegistryError

    try:
        return name, check(), True
    except (UnknownError, SettingsError, KubeflowError, RegistryError) as error:
        return name, str(error), False


def _revision() -> str:
    from pipeline.kubeflow.revision import revision

    return f"{revision()[:12]}, with nothing uncommitted"


def _images(project: Project) -> str:
    from pipeline.images.build import needed, references
    from pipeline.images.registry import Registry

    registry, images = Registry(project.registry), references(project)
    missing = [name for name in needed(project) if not registry.has(images[name])]
    if missing:
        return f"{project.registry} answers; make push has yet to push {', '.join(missing)}"
    return f"{project.registry} has every image"


def _kubeflow(given: Mapping[str, str | None]) -> str:
    server = Kubeflow(given["host"], given["token"], given["namespace"])
    server.check()
    if server.namespace and server.namespace != namespace():
        raise SettingsError(
            f"runs would be in namespace {server.namespace} and infra/pv-pvc makes the claims in {namespace()}, where "
            "no pod would find them: set KFP_NAMESPACE and namespace= in its kustomization.yaml to the same"
        )
    place = f"namespace {server.namespace}" if server.namespace else "one user's, without namespaces"
    return f"{server.host} lets this token in ({place})"
