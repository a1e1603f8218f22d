"""Checks with kubectl that the cluster's nodes and volumes allow what project.yaml asks for; writes nothing."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pipeline.kubeflow.cluster import KubectlError, allowed, kubectl
from pipeline.kubeflow.train_job import GPU, GROUP, RUNTIME
from pipeline.placement import Toleration
from pipeline.settings import Kubeflow, Project, SettingsError
from steps.registry import STEPS, TASKS

_SHARE = "let every node see the volumes with components/shared or components/nfs of infra/pv-pvc"
_SHARED = "ReadWriteMany"
_ALONE = "or set kubeflow.train to {nodes: 1, gpus_per_node: 0} in project.yaml"
_RUNTIMES = f"clustertrainingruntimes.{GROUP}"
# Of the rights in components/training, the first and the last that train needs.
_RIGHTS = (("create", f"trainjobs.{GROUP}"), ("get", "pods/log"))

Object = dict[str, Any]


def check_placement(namespace: str, project: Project) -> str:
    """Check that each step has a node that takes its pods and sees its volumes.

    Args:
        namespace: The namespace of the pods.
        project: The project, with the nodes of each step.

    Returns:
        A sentence with the number of nodes.

    Raises:
        SettingsError: A step has no such node, or claims of one node at a time are used from several.
        KubectlError: Kubectl failed.
    """
    kubeflow = project.kubeflow
    nodes, claims = kubectl("get", "nodes"), _claims(namespace)
    volumes = {each["metadata"]["name"]: each for each in kubectl("get", "pv")}
    users: dict[str, dict[str, set[str]]] = {}  # of each claim: the nodes of each step
    for step in STEPS:
        own = _fitting(nodes, kubeflow.selector(step.name), kubeflow.tolerations(step.name))
        if not own:
            raise SettingsError(f"no node takes the pods of {step.name}: {_wanted(kubeflow, step.name)}")
        for claim in (kubeflow.claims[volume] for volume in step.volumes):
            volume = volumes.get(claims.get(claim, {}).get("spec", {}).get("volumeName", ""), {})
            there = {_name(node) for node in nodes if _is_bound_to(volume, node)}
            if not there:
                raise SettingsError(
                    f"no node has the folder of {_name(volume)}, the volume of {claim}: set node= in "
                    "infra/pv-pvc/kustomization.yaml to a node's label kubernetes.io/hostname, delete the volume and "
                    "apply it again"
                )
            if not own & there:
                raise SettingsError(
                    f"{step.name} may run on {_list(own)} alone, and its claim {claim} is a folder of {_list(there)}: "
                    f"change kubeflow.node_selector or kubeflow.nodes in project.yaml, or {_SHARE}"
                )
            users.setdefault(claim, {})[step.name] = own & there
    for claim, steps in users.items():
        modes = claims.get(claim, {}).get("spec", {}).get("accessModes", ())
        if modes and _SHARED not in modes and not set.intersection(*steps.values()):
            raise SettingsError(
                f"the nodes of {', '.join(steps)} have none in common, and their claim {claim} is {', '.join(modes)}, "
                f"of one node at a time: change kubeflow.nodes in project.yaml, or {_SHARE}"
            )
    return f"each step has one of the {len(nodes)} nodes, which sees its volumes"


def check_training(namespace: str, project: Project) -> str:
    """Check that the cluster can run train's TrainJob.

    Args:
        namespace: The namespace of the pods.
        project: The project, whose training has several processes.

    Returns:
        A sentence with the processes.

    Raises:
        SettingsError: Trainer, its runtime or a right is missing, claims are of one node, or the nodes too few.
        KubectlError: Kubectl failed.
    """
    kubeflow, training = project.kubeflow, project.kubeflow.train
    _check_trainer()
    claims = _claims(namespace)
    for claim in (kubeflow.claims[volume] for volume in TASKS["train"].volumes):
        modes = claims.get(claim, {}).get("spec", {}).get("accessModes", ())
        if training.nodes > 1 and claim in claims and _SHARED not in modes:
            raise SettingsError(
                f"kubeflow.train has {training.nodes} nodes, and the claim {claim} is {', '.join(modes)}, of one node "
                f"at a time: {_SHARE}, {_ALONE}"
            )
    places = _places(kubectl("get", "nodes"), kubeflow)
    if places < training.nodes:
        what = f"{training.gpus_per_node} GPUs and " if training.gpus_per_node else ""
        raise SettingsError(
            f"the nodes have room for {places} of the {training.nodes} pods of kubeflow.train, each with {what}the "
            f"requests of kubeflow.resources.train ({_wanted(kubeflow, 'train')}): lower kubeflow.train.nodes, or add "
            "nodes"
        )
    who = f"system:serviceaccount:{namespace}:{kubeflow.account}"
    if lacking := [f"{verb} {resource}" for verb, resource in _RIGHTS if not allowed(verb, resource, namespace, who)]:
        raise SettingsError(
            f"the service account {kubeflow.account} in namespace {namespace} may not {', '.join(lacking)}: uncomment "
            f"components/training in infra/pv-pvc/kustomization.yaml, and kubectl apply -k infra/pv-pvc, {_ALONE}"
        )
    return f"Kubeflow Trainer is there, and nodes have room for {training.nodes} pods"


def _check_trainer() -> None:
    try:
        runtimes = {_name(each) for each in kubectl("get", _RUNTIMES)}
    except KubectlError as error:
        if "doesn't have a resource type" not in str(error):
            raise
        raise SettingsError(
            f"the cluster has no Kubeflow Trainer, which kubeflow.train needs for more than one process: install its "
            f"release 2.2 or later, {_ALONE}"
        ) from error
    if RUNTIME not in runtimes:
        raise SettingsError(
            f"Kubeflow Trainer has no ClusterTrainingRuntime {RUNTIME}, but {_list(runtimes) or 'none'}: install those "
            f"that its release brings, {_ALONE}"
        )


def _claims(namespace: str) -> dict[str, Object]:
    return {_name(each): each for each in kubectl("get", "pvc", "-n", namespace)}


def _name(one: Object) -> str:
    return str(one.get("metadata", {}).get("name", ""))


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names))


def _wanted(kubeflow: Kubeflow, step: str) -> str:
    labels = ", ".join(f"{key}={value}" for key, value in kubeflow.selector(step).items())
    wanted = f"the labels {labels} of kubeflow.node_selector and kubeflow.nodes, and " if labels else ""
    return f"it needs {wanted}no taint but those that kubeflow.nodes.{step}.tolerations in project.yaml names"


def _fitting(nodes: Sequence[Object], labels: Mapping[str, str], tolerations: Sequence[Toleration]) -> set[str]:
    """The names of the nodes that have these labels, and no taint that keeps a pod away."""
    return {
        _name(node)
        for node in nodes
        if labels.items() <= node["metadata"].get("labels", {}).items()
        and not node.get("spec", {}).get("unschedulable")
        and all(any(each.covers(taint) for each in tolerations) for taint in _taints(node))
    }


def _taints(node: Object) -> Iterator[dict[str, str]]:
    for taint in node.get("spec", {}).get("taints") or ():
        if taint.get("effect") != "PreferNoSchedule":
            yield taint


def _is_bound_to(volume: Object, node: Object) -> bool:
    """Whether a volume can be used on a node: its nodeAffinity, as Kubernetes reads it; without one it can."""
    terms = volume.get("spec", {}).get("nodeAffinity", {}).get("required", {}).get("nodeSelectorTerms")
    if terms is None:
        return True
    labels = node["metadata"].get("labels", {})
    fields = {"metadata.name": _name(node)}
    return any(
        all(_holds(each, labels) for each in term.get("matchExpressions") or ())
        and all(_holds(each, fields) for each in term.get("matchFields") or ())
        for term in terms
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value: Any = labels.get(expression["key"])
    values: list[str] = expression.get("values") or []
    match expression["operator"]:
        case "In":
            found = value in values
        case "NotIn":
            found = value not in values
        case "Exists" | "DoesNotExist" as operator:
            found = (value is not None) == (operator == "Exists")
        case operator:  # Gt and Lt, of whole numbers; a label that is none has no place among them
            try:
                above = int(value) - int(values[0])
            except (TypeError, ValueError):
                return False
            found = above > 0 if operator == "Gt" else above < 0
    return found


def _places(nodes: Sequence[Object], kubeflow: Kubeflow) -> int:
    """How many of the TrainJob's pods have room on the nodes, if nothing else ran there."""
    from kubernetes.utils import parse_quantity  # imported late: it brings the whole client

    resources = kubeflow.resources["train"]
    gpus = kubeflow.train.gpus_per_node
    wanted = {"cpu": resources.cpu, "memory": resources.memory, **({GPU: str(gpus)} if gpus else {})}
    fitting = _fitting(nodes, kubeflow.selector("train"), kubeflow.tolerations("train"))
    found = 0
    for node in nodes:
        has = node.get("status", {}).get("allocatable", {})
        if _name(node) in fitting:
            found += min(int(parse_quantity(has.get(key, "0")) // parse_quantity(one)) for key, one in wanted.items())
    return found
