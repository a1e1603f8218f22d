"""The TrainJob of Kubeflow Trainer in which train runs as several processes: made from the settings, read by the step.

The step adds the job's name and the arguments of its command; see `steps/train/cluster`.
"""

from typing import Any

from pipeline.images.docker import GID, UID
from pipeline.settings import Project
from steps.registry import TASKS

GROUP = "trainer.kubeflow.org"
RUNTIME = "torch-distributed"  # a ClusterTrainingRuntime that Trainer's installation brings
GPU = "nvidia.com/gpu"
_NODE = "node"  # the runtime's job and container in which the processes run
_COMPONENT = {"app.kubernetes.io/component": "train-job"}
_PART_OF = "app.kubernetes.io/part-of"


def manifest(project: Project, image: str) -> dict[str, Any]:
    """The TrainJob.

    Args:
        project: The project, with the settings of the pods.
        image: The image of train.

    Returns:
        The object as JSON, whose name is a prefix, and whose command lacks its arguments.
    """
    kubeflow, step = project.kubeflow, TASKS["train"]
    resources = kubeflow.resources[step.image]
    gpus = {GPU: str(kubeflow.train.gpus_per_node)} if kubeflow.train.gpus_per_node else {}
    labels = {_PART_OF: project.name}
    trainer = {
        "image": image,
        "numNodes": kubeflow.train.nodes,
        "numProcPerNode": kubeflow.train.processes_per_node,
        # Trainer's runtime sets the variables PET_*, from which torchrun knows nodes and processes.
        "command": ["python3", "-m", "torch.distributed.run", "--module", "steps.train"],
        "resourcesPerNode": {
            "requests": {"cpu": resources.cpu, "memory": resources.memory, **gpus},
            "limits": {"cpu": resources.cpu_limit, "memory": resources.memory_limit, **gpus},
        },
    }
    template = {
        "metadata": {"labels": {**labels, **_COMPONENT, "sidecar.istio.io/inject": "false"}},
        "spec": _pod(project),
    }
    jobs = [{"name": _NODE, "template": {"spec": {"template": template}}}]
    changes = {"template": {"spec": {"replicatedJobs": jobs}}}
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": f"{kubeflow.name_prefix}train", "labels": labels},
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": RUNTIME},
            "trainer": trainer,
            "runtimePatches": [{"manager": f"{project.name}/train", "trainingRuntimeSpec": changes}],
        },
    }


def _pod(project: Project) -> dict[str, Any]:
    """What the pods have that the runtime's lack: volumes, nodes, and what PodSecurity's profile restricted demands."""
    kubeflow, step = project.kubeflow, TASKS["train"]
    mounts = [{"name": volume, "mountPath": f"/{volume}"} for volume in step.volumes]
    volumes: list[dict[str, Any]] = [
        {"name": volume, "persistentVolumeClaim": {"claimName": kubeflow.claims[volume]}} for volume in step.volumes
    ]
    if kubeflow.train.gpus_per_node > 1:  # NCCL connects the GPUs of a node by shared memory, of which pods have 64 MiB
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}})
    spread = {
        "labelSelector": {"matchLabels": {_PART_OF: project.name, **_COMPONENT}},
        "topologyKey": "kubernetes.io/hostname",
    }
    container = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod: dict[str, Any] = {
        "volumes": volumes,
        "containers": [{"name": _NODE, "volumeMounts": mounts, "securityContext": container}],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": spread}]
            }
        },
        "securityContext": {
            **{"runAsUser": UID, "runAsGroup": GID, "runAsNonRoot": True},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if selector := kubeflow.selector("train"):
        pod["nodeSelector"] = selector
    if tolerations := kubeflow.tolerations("train"):
        pod["tolerations"] = [each.manifest() for each in tolerations]
    if kubeflow.image_pull_secret:
        pod["imagePullSecrets"] = [{"name": kubeflow.image_pull_secret}]
    return pod
