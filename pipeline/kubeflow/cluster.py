"""Checks the cluster with kubectl: reads claims, nodes and Deployments, writes nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from contract.errors import InputError
from contract.paths import ROOT
from pipeline.settings import SettingsError
from steps.registry import CLAIMS

_SECONDS = 20


class KubectlError(InputError):
    """The cluster's state is unknown, since kubectl failed; the message says what to do."""


def claims_namespace() -> str:
    """The namespace in which infra/pv-pvc makes the claims.

    Returns:
        The namespace of `infra/pv-pvc/kustomization.yaml`.

    Raises:
        KubectlError: The file has no namespace.
    """
    path = ROOT / "infra/pv-pvc/kustomization.yaml"
    try:
        literals = yaml.safe_load(path.read_text(encoding="utf-8"))["configMapGenerator"][0]["literals"]
        return str(dict(text.split("=", 1) for text in literals)["namespace"])
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        raise KubectlError(f"{path} has no namespace ({error}): restore namespace= among its literals") from error


def check_claims(namespace: str) -> str:
    """Check that the claims are bound.

    Args:
        namespace: The namespace of the pods.

    Returns:
        A sentence with the claims.

    Raises:
        SettingsError: A claim is missing or not bound.
        KubectlError: Kubectl failed.
    """
    wanted = list(CLAIMS.values())
    claims = {each["metadata"]["name"]: each["status"].get("phase") for each in _kubectl("get", "pvc", "-n", namespace)}
    if missing := [name for name in wanted if name not in claims]:
        raise SettingsError(
            f"namespace {namespace} has no claim {', '.join(missing)}: make them with kubectl apply -k infra/pv-pvc, "
            "or choose Kubeflow's cluster with kubectl config use-context if kubectl asked another one"
        )
    if unbound := [name for name in wanted if claims[name] != "Bound"]:
        raise SettingsError(
            f"{', '.join(unbound)} in namespace {namespace} is not bound ({claims[unbound[0]]}): kubectl describe pvc "
            f"{unbound[0]} -n {namespace} says why; delete a volume that is Released, and apply it again"
        )
    return f"{', '.join(wanted)} are bound in namespace {namespace}"


def check_gpus(wanted: int, labels: Mapping[str, str]) -> str:
    """Check that one node has enough GPUs.

    Args:
        wanted: How many GPUs the train step's pod requests.
        labels: The labels of the nodes that the pods may run on.

    Returns:
        A sentence with the largest number of GPUs of one node.

    Raises:
        SettingsError: No such node has enough GPUs.
        KubectlError: Kubectl failed.
    """
    selector = ["-l", ",".join(f"{key}={value}" for key, value in labels.items())] if labels else []
    nodes = _kubectl("get", "nodes", *selector)
    most = max((int(each["status"].get("allocatable", {}).get("nvidia.com/gpu", 0)) for each in nodes), default=0)
    if most < wanted:
        raise SettingsError(
            f"no node has the {wanted} GPUs of kubeflow.gpus, the most is {most}: lower kubeflow.gpus, or install "
            "NVIDIA's device plugin on the node"
        )
    return f"a node has {most}, and kubeflow.gpus is {wanted}"


def check_processors(platforms: Sequence[str], labels: Mapping[str, str]) -> str:
    """Check that the images are for the processors of the nodes.

    Args:
        platforms: The platforms of the images, such as `linux/amd64`.
        labels: The labels of the nodes that the pods may run on.

    Returns:
        A sentence with the platforms.

    Raises:
        SettingsError: A node has another processor.
        KubectlError: Kubectl failed.
    """
    selector = ["-l", ",".join(f"{key}={value}" for key, value in labels.items())] if labels else []
    found = {each["status"].get("nodeInfo", {}).get("architecture") for each in _kubectl("get", "nodes", *selector)}
    nodes = sorted(f"linux/{each}" for each in found if each)
    if others := [each for each in nodes if each not in platforms]:
        raise SettingsError(
            f"nodes are {', '.join(nodes)}, and the images are for {', '.join(platforms)}: set kubeflow.platforms in "
            f"project.yaml to [{', '.join(nodes)}] and push again, or keep the pods from {', '.join(others)} by "
            "kubeflow.node_selector: {kubernetes.io/arch: ...}"
        )
    return f"images and nodes are {', '.join(platforms)}" if nodes else f"the images are for {', '.join(platforms)}"


def check_serving(namespace: str) -> str:
    """Check that the Deployment which deploy rolls out exists.

    Args:
        namespace: The namespace of serving.

    Returns:
        A sentence with the Deployment.

    Raises:
        SettingsError: There is no such Deployment.
        KubectlError: Kubectl failed.
    """
    if "torchserve" not in [each["metadata"]["name"] for each in _kubectl("get", "deployments", "-n", namespace)]:
        raise SettingsError(
            f"namespace {namespace} has no Deployment torchserve, which deploy rolls to each new model: kubectl apply "
            "-k infra/torchserve, or kubeflow.serving_namespace: null in project.yaml to leave serving alone"
        )
    return f"namespace {namespace} has the Deployment torchserve"


def _kubectl(*words: str) -> list[dict[str, Any]]:
    # The user's kubectl fits the version of the cluster; the one in this environment is the fallback.
    program = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
    command = [program, *words, "-o", "json", f"--request-timeout={_SECONDS}s"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS + 5)
        if done.returncode == 0:
            items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
            return items
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    except (OSError, subprocess.TimeoutExpired, ValueError, LookupError) as error:
        reason = str(error)
    raise KubectlError(
        f"kubectl {' '.join(words)} failed ({reason}): choose the cluster with kubectl config use-context"
    )
