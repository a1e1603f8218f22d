"""The cluster, asked by kubectl from here: reads claims and nodes, writes nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from contract.errors import InputError
from contract.paths import ROOT
from pipeline.settings import SettingsError

_SECONDS = 20


class KubectlError(InputError):
    """What to ask, or how, is not known here; the message says what to do."""


def claims_namespace() -> str:
    """Where infra/pv-pvc puts the claims; KubectlError if it does not say."""
    path = ROOT / "infra/pv-pvc/kustomization.yaml"
    try:
        literals = yaml.safe_load(path.read_text(encoding="utf-8"))["configMapGenerator"][0]["literals"]
        return str(dict(text.split("=", 1) for text in literals)["namespace"])
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        raise KubectlError(
            f"{path} does not say the namespace ({error}): restore namespace= among its literals"
        ) from error


def check_claims(place: str) -> str:
    """Says that the claims are bound in a namespace; SettingsError if one is not, KubectlError if that is not known."""
    from pipeline.kubeflow.compile import CLAIMS  # brings kfp

    wanted = list(CLAIMS.values())
    claims = {one["metadata"]["name"]: one["status"].get("phase") for one in _kubectl("get", "pvc", "-n", place)}
    if missing := [name for name in wanted if name not in claims]:
        raise SettingsError(
            f"namespace {place} has no claim {', '.join(missing)}: make them with kubectl apply -k infra/pv-pvc, or "
            "choose Kubeflow's cluster with kubectl config use-context if kubectl asked another one"
        )
    if loose := [name for name in wanted if claims[name] != "Bound"]:
        raise SettingsError(
            f"{', '.join(loose)} in namespace {place} is not bound ({claims[loose[0]]}): kubectl describe pvc "
            f"{loose[0]} -n {place} says why; a volume that another claim had must be removed and applied anew"
        )
    return f"{', '.join(wanted)} are bound in namespace {place}"


def check_gpus(wanted: int, labels: Mapping[str, str]) -> str:
    """Says that a node with these labels has so many GPUs; SettingsError if none has, KubectlError if not known."""
    selector = ["-l", ",".join(f"{key}={value}" for key, value in labels.items())] if labels else []
    nodes = _kubectl("get", "nodes", *selector)
    most = max((int(one["status"].get("allocatable", {}).get("nvidia.com/gpu", 0)) for one in nodes), default=0)
    if most < wanted:
        raise SettingsError(
            f"no node has the {wanted} GPUs that project.yaml asks for, the most is {most}: lower kubeflow.gpus, or "
            "install NVIDIA's device plugin on a node that has them"
        )
    return f"a node has {most}, and {wanted} are asked for"


def check_serving(place: str) -> str:
    """Says that a namespace has the Deployment that deploy rolls; SettingsError if not, KubectlError if not known."""
    if "torchserve" not in [one["metadata"]["name"] for one in _kubectl("get", "deployments", "-n", place)]:
        raise SettingsError(
            f"namespace {place} has no Deployment torchserve, which deploy rolls to each new model: kubectl apply -k "
            "infra/torchserve, or kubeflow.serving_namespace: null in project.yaml to leave serving alone"
        )
    return f"namespace {place} has the Deployment torchserve"


def _kubectl(*words: str) -> list[dict[str, Any]]:
    # The cluster's own is better, since its version fits; the one among this project's packages is always there.
    program = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
    command = [program, *words, "-o", "json", f"--request-timeout={_SECONDS}s"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS + 5)
        if done.returncode == 0:
            items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
            return items
        said = (done.stderr.strip().splitlines() or ["no word"])[-1]
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError) as error:
        said = str(error)
    raise KubectlError(f"kubectl {' '.join(words)} failed ({said}): choose the cluster with kubectl config use-context")
