"""Checks the cluster with kubectl: reads claims, nodes and Deployments, writes nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from contract.errors import InputError
from contract.paths import ROOT
from pipeline.settings import SettingsError

_SECONDS = 20
_PROJECT = "app.kubernetes.io/part-of"  # the label with the project's name, in infra/pv-pvc


class KubectlError(InputError):
    """The cluster's state is unknown, since kubectl failed; the message says what to do."""


def claims_namespace() -> str:
    """The namespace in which infra/pv-pvc makes the claims; KubectlError if its kustomization names none."""
    return _setting("namespace")


def _setting(key: str) -> str:
    """A value of `infra/pv-pvc/kustomization.yaml`."""
    path = ROOT / "infra/pv-pvc/kustomization.yaml"
    try:
        literals = yaml.safe_load(path.read_text(encoding="utf-8"))["configMapGenerator"][0]["literals"]
        return str(dict(text.split("=", 1) for text in literals)[key])
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        raise KubectlError(f"{path} has no {key} ({error}): restore {key}= among its literals") from error


def check_claims(namespace: str, wanted: Collection[str]) -> str:
    """Check that the claims are bound, and are this project's.

    Args:
        namespace: The namespace of the pods.
        wanted: The names of the claims.

    Returns:
        A sentence with the claims.

    Raises:
        SettingsError: A claim is missing, not bound, on its way out, or another project's.
        KubectlError: Kubectl failed.
    """
    claims = {each["metadata"]["name"]: each for each in kubectl("get", "pvc", "-n", namespace)}
    if missing := [name for name in wanted if name not in claims]:
        raise SettingsError(
            f"namespace {namespace} has no claim {', '.join(missing)}: make them with kubectl apply -k infra/pv-pvc, "
            "or choose Kubeflow's cluster with kubectl config use-context if kubectl asked another one"
        )
    project = _setting("project")
    owners = {name: claims[name]["metadata"].get("labels", {}).get(_PROJECT, project) for name in wanted}
    if foreign := [name for name in wanted if owners[name] != project]:
        raise SettingsError(
            f"{', '.join(foreign)} in namespace {namespace} belongs to the project {owners[foreign[0]]}: choose other "
            "names with kubeflow.name_prefix in project.yaml, then make pin and kubectl apply -k infra/pv-pvc"
        )
    if going := [name for name in wanted if claims[name]["metadata"].get("deletionTimestamp")]:  # still Bound
        raise SettingsError(
            f"{', '.join(going)} in namespace {namespace} is being deleted, and waits for the pods that use it, "
            "finished ones too: delete the workflows of its runs, as docs/kubeflow.md says, then kubectl apply "
            "-k infra/pv-pvc"
        )
    phases = {name: claims[name]["status"].get("phase") for name in wanted}
    late = [
        name for name in wanted if phases[name] == "Pending" and _is_bound_by_its_first_pod(claims[name], namespace)
    ]
    if unbound := [name for name in wanted if phases[name] != "Bound" and name not in late]:
        _check_reservation(claims[unbound[0]], namespace)
        raise SettingsError(
            f"{', '.join(unbound)} in namespace {namespace} is not bound ({phases[unbound[0]]}): kubectl describe pvc "
            f"{unbound[0]} -n {namespace} says why; delete a volume that is Released, and apply it again"
        )
    if late:
        return f"{', '.join(wanted)} are in namespace {namespace}; {', '.join(late)} will be bound with the first pod"
    return f"{', '.join(wanted)} are bound in namespace {namespace}"


def _is_bound_by_its_first_pod(claim: dict[str, Any], namespace: str) -> bool:
    """Whether a claim waits for its class to make a volume when a pod needs it; SettingsError if the class cannot."""
    name, wanted = claim["metadata"]["name"], claim.get("spec", {}).get("storageClassName")
    if not wanted:  # a volume that infra/pv-pvc makes
        return False
    classes = {each["metadata"]["name"]: each for each in kubectl("get", "storageclasses")}
    if wanted not in classes:
        raise SettingsError(
            f"{name} in namespace {namespace} waits for the storage class {wanted}, and the cluster has "
            f"{', '.join(sorted(classes)) or 'none'}: set storage-class= in infra/pv-pvc/kustomization.yaml to one "
            "with ReadWriteMany, delete the claim, and apply it again"
        )
    events = kubectl("get", "events", "-n", namespace, f"--field-selector=involvedObject.name={name}")
    if failed := [each for each in events if each.get("reason") == "ProvisioningFailed"]:
        modes = ", ".join(claim["spec"].get("accessModes", ()))
        raise SettingsError(
            f"{name} in namespace {namespace} is not bound, since the storage class {wanted} makes no {modes} volume "
            f"({' '.join(failed[-1].get('message', '').split())}): set storage-class= in "
            "infra/pv-pvc/kustomization.yaml to another, delete the claim, and apply it again"
        )
    return classes[wanted].get("volumeBindingMode") == "WaitForFirstConsumer"


def _check_reservation(claim: dict[str, Any], namespace: str) -> None:
    """Find the volume of a claim that is reserved for the claim of another namespace."""
    volume = claim.get("spec", {}).get("volumeName")
    for each in kubectl("get", "pv") if volume else ():
        reserved = each.get("spec", {}).get("claimRef", {}).get("namespace", namespace)
        if each["metadata"]["name"] == volume and reserved != namespace:
            raise SettingsError(
                f"{claim['metadata']['name']} in namespace {namespace} is never bound, since its volume {volume} is "
                f"reserved for namespace {reserved}: delete the volume, whose folder stays, and kubectl apply -k "
                "infra/pv-pvc, or your overlay of it, again"
            )


def pod_troubles(namespace: str, run_id: str) -> str:
    """Why pods of a run do not start, or have failed.

    Args:
        namespace: The namespace of the pods.
        run_id: The run on Kubeflow.

    Returns:
        What scheduler, kubelet and Argo say, each sentence once; nothing if they say nothing.

    Raises:
        KubectlError: Kubectl failed.
    """
    label = ("-n", namespace, "-l", f"pipeline/runid={run_id}")
    said = [text for pod in kubectl("get", "pods", *label) for text in _pod_trouble(pod)]
    nodes = [
        node
        for workflow in kubectl("get", "workflows.argoproj.io", *label)
        for node in workflow.get("status", {}).get("nodes", {}).values()
    ]
    said += [node["message"] for node in nodes if node.get("type") == "Pod" and node.get("message")]
    return "; ".join(dict.fromkeys(" ".join(text.split()) for text in said))


def _pod_trouble(pod: dict[str, Any]) -> Iterator[str]:
    status = pod.get("status", {})
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False" and condition.get("message"):
            yield f"{condition.get('reason', 'Unschedulable')}: {condition['message']}"
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = one.get("state", {}).get("waiting", {})
        if waiting.get("message"):
            yield f"{waiting.get('reason', 'waiting')}: {waiting['message']}"
        if (ended := one.get("state", {}).get("terminated", {})).get("reason") == "OOMKilled":
            yield f"OOMKilled: container {one.get('name')} ended with {ended.get('exitCode')}"


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
    nodes = kubectl("get", "nodes", *selector)
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
    found = {each["status"].get("nodeInfo", {}).get("architecture") for each in kubectl("get", "nodes", *selector)}
    nodes = sorted(f"linux/{each}" for each in found if each)
    if others := [each for each in nodes if each not in platforms]:
        raise SettingsError(
            f"nodes are {', '.join(nodes)}, and the images are for {', '.join(platforms)}: set kubeflow.platforms in "
            f"project.yaml to [{', '.join(nodes)}] and push again, or keep the pods from {', '.join(others)} by "
            "kubeflow.node_selector: {kubernetes.io/arch: ...}"
        )
    return f"images and nodes are {', '.join(platforms)}" if nodes else f"the images are for {', '.join(platforms)}"


def check_serving(namespace: str, name: str) -> str:
    """Check that the Deployment which deploy rolls out exists.

    Args:
        namespace: The namespace of serving.
        name: The name of the Deployment.

    Returns:
        A sentence with the Deployment.

    Raises:
        SettingsError: There is no such Deployment, or it is another project's.
        KubectlError: Kubectl failed.
    """
    found = {each["metadata"]["name"]: each["metadata"] for each in kubectl("get", "deployments", "-n", namespace)}
    project = _setting("project")
    if (owner := found.get(name, {}).get("labels", {}).get(_PROJECT, project)) != project:
        raise SettingsError(
            f"the Deployment {name} in namespace {namespace} serves the project {owner}, and this one's deploy would "
            "replace its model: choose another name with kubeflow.name_prefix in project.yaml, then make pin and "
            "kubectl apply -k infra/torchserve"
        )
    if name not in found:
        raise SettingsError(
            f"namespace {namespace} has no Deployment {name}, which deploy rolls to each new model: kubectl apply "
            "-k infra/torchserve, or kubeflow.serving_namespace: null in project.yaml to leave serving alone"
        )
    return f"namespace {namespace} has the Deployment {name}"


def allowed(verb: str, resource: str, namespace: str, account: str) -> bool:
    """Whether an account may do something.

    Args:
        verb: Such as `create`.
        resource: With its group, such as `trainjobs.trainer.kubeflow.org`.
        namespace: Where.
        account: Who, as Kubernetes names it.

    Returns:
        What the cluster says.

    Raises:
        KubectlError: Kubectl failed, or may not ask for another account.
    """
    done, reason = _run("auth", "can-i", verb, resource, "-n", namespace, f"--as={account}")
    said = done.stdout.split() if done else []
    if said[:1] in (["yes"], ["no"]):
        return said[0] == "yes"
    raise KubectlError(f"kubectl auth can-i failed ({reason}): ask as an administrator of the cluster")


def kubectl(*words: str) -> list[dict[str, Any]]:
    """What kubectl lists.

    Args:
        words: Its arguments, such as `get nodes`.

    Returns:
        The objects, as JSON.

    Raises:
        KubectlError: Kubectl failed.
    """
    done, reason = _run(*words, "-o", "json")
    if done and done.returncode == 0:
        try:
            items: list[dict[str, Any]] = json.loads(done.stdout)["items"]
            return items
        except (ValueError, LookupError) as error:
            reason = str(error)
    raise KubectlError(
        f"kubectl {' '.join(words)} failed ({reason}): choose the cluster with kubectl config use-context"
    )


def _run(*words: str) -> tuple[subprocess.CompletedProcess[str] | None, str]:
    """Kubectl's end, and the last line of its errors; None if it did not end."""
    # The user's kubectl fits the version of the cluster; the one in this environment is the fallback.
    program = shutil.which("kubectl") or str(Path(sys.executable).with_name("kubectl"))
    command = [program, *words, f"--request-timeout={_SECONDS}s"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS + 5)
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    return done, (done.stderr.strip().splitlines() or ["no message"])[-1]
