"""What can be checked before the first push, a line each: ok, or what to do. Reads settings, servers, the cluster."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.kubeflow import Kubeflow, KubeflowError
from pipeline.settings import Project, SettingsError, load_params, load_project
from steps.common.digest import ROOT, STEPS

_SECONDS = 20


class Unwell(Exception):
    """A check that failed: what was found, and what to do."""


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
    yield _line("claims", _claims)
    if one.kubeflow.gpus:
        yield _line("GPU", lambda: _gpus(one.kubeflow.gpus, one.kubeflow.node_selector))


def namespace() -> str:
    """Where infra/pv-pvc puts the claims."""
    path = ROOT / "infra/pv-pvc/kustomization.yaml"
    try:
        literals = yaml.safe_load(path.read_text(encoding="utf-8"))["configMapGenerator"][0]["literals"]
        return str(dict(text.split("=", 1) for text in literals)["namespace"])
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        raise Unwell(f"{path} does not say the namespace ({error}): restore namespace= among its literals") from error


def _line(name: str, check: Callable[[], str]) -> tuple[str, str, bool]:
    from pipeline.registry import RegistryError

    try:
        return name, check(), True
    except (Unwell, SettingsError, KubeflowError, RegistryError) as error:
        return name, str(error), False


def _revision() -> str:
    from pipeline.revision import revision

    return f"{revision()[:12]}, with nothing uncommitted"


def _images(project: Project) -> str:
    from pipeline.images import references
    from pipeline.registry import Registry

    registry, images = Registry(project.registry), references(project)
    missing = [name for name in STEPS if not registry.has(images[name])]
    if missing:
        return f"{project.registry} answers; make push has yet to push {', '.join(missing)}"
    return f"{project.registry} has the image of every step"


def _kubeflow(given: Mapping[str, str | None]) -> str:
    server = Kubeflow(given["host"], given["token"], given["namespace"])
    server.check()
    place = f"namespace {server.namespace}" if server.namespace else "one user's, without namespaces"
    return f"{server.host} lets this token in ({place})"


def _claims() -> str:
    from pipeline.compile import CLAIMS  # brings kfp

    place, wanted = namespace(), list(CLAIMS.values())
    claims = {one["metadata"]["name"]: one["status"].get("phase") for one in _kubectl("get", "pvc", "-n", place)}
    if missing := [name for name in wanted if name not in claims]:
        raise Unwell(f"namespace {place} has no {', '.join(missing)}: kubectl apply -k infra/pv-pvc")
    if loose := [name for name in wanted if claims[name] != "Bound"]:
        raise Unwell(
            f"{', '.join(loose)} in namespace {place} is not bound ({claims[loose[0]]}): kubectl describe pvc "
            f"{loose[0]} -n {place} says why; a volume that another claim had must be removed and applied anew"
        )
    return f"{', '.join(wanted)} are bound in namespace {place}"


def _gpus(wanted: int, labels: Mapping[str, str]) -> str:
    selector = ["-l", ",".join(f"{key}={value}" for key, value in labels.items())] if labels else []
    nodes = _kubectl("get", "nodes", *selector)
    most = max((int(one["status"].get("allocatable", {}).get("nvidia.com/gpu", 0)) for one in nodes), default=0)
    if most < wanted:
        raise Unwell(
            f"no node has the {wanted} GPUs that project.yaml asks for, the most is {most}: lower kubeflow.gpus, or "
            "install NVIDIA's device plugin on a node that has them"
        )
    return f"a node has {most}, and {wanted} are asked for"


def _kubectl(*words: str) -> list[dict[str, Any]]:
    if shutil.which("kubectl") is None:
        raise Unwell("there is no kubectl here to ask: install it, or run make doctor where it is")
    command = ["kubectl", *words, "-o", "json", f"--request-timeout={_SECONDS}s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise Unwell(f"kubectl {' '.join(words)} failed ({said}): choose the cluster with kubectl config use-context")
    items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return items
