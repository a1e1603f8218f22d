"""Whether the cluster allows the settings of nodes, as doctor checks it and each submission; kubectl is a script."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.kubeflow import submit
from pipeline.kubeflow.cluster import KubectlError, check_claims
from pipeline.kubeflow.placement import check_placement, check_training
from pipeline.placement import Nodes, Toleration, Training
from pipeline.settings import Project, SettingsError, load_project
from steps.registry import STEP_NAMES
from tests.support.settings import PROJECT_FILE

CLAIMS = {"data-pvc": "data", "train-model-pvc": "model", "deploy-model-pvc": "deploy-model"}
GPU_TAINT = {"key": "gpu", "value": "a", "effect": "NoSchedule"}
# Answers with the list of its first two words, or of three for `auth can-i`; an unknown kind is an error, as kubectl's.
SCRIPT = """import json, sys
answers = json.load(open({answers!r}))
words = sys.argv[1:]
if words[0] == "auth":
    said = answers["rights"].get(words[2] + " " + words[3])
    print(said) if said else print("Error from server (Forbidden): cannot impersonate", file=sys.stderr)
    sys.exit(said != "yes")
if words[1] not in answers:
    print("error: the server doesn't have a resource type " + json.dumps(words[1].partition(".")[0]), file=sys.stderr)
    sys.exit(1)
print(json.dumps({{"items": answers[words[1]]}}))
"""


class Cluster:
    """What kubectl finds: two nodes, of which one has GPUs and a taint; volumes on node-1; Trainer and its rights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        plain = {"cpu": "4", "memory": "16Gi"}
        self.nodes = [node("node-1", plain), node("node-2", {**plain, "nvidia.com/gpu": "2"}, taints=[GPU_TAINT])]
        self.answers: dict[str, Any] = {
            "nodes": self.nodes,
            "pvc": [claim(name, volume) for name, volume in CLAIMS.items()],
            "pv": [folder_of(volume, "node-1") for volume in CLAIMS.values()],
            "storageclasses": [],
            "events": [],
            "clustertrainingruntimes.trainer.kubeflow.org": [{"metadata": {"name": "torch-distributed"}}],
            "rights": {"create trainjobs.trainer.kubeflow.org": "yes", "get pods/log": "yes"},
        }

    def share(self) -> None:
        """As components/nfs of infra/pv-pvc."""
        self.answers["pv"] = [{"metadata": {"name": volume}, "spec": {}} for volume in CLAIMS.values()]
        for each in self.answers["pvc"]:
            each["spec"]["accessModes"] = ["ReadWriteMany"]

    def write(self) -> None:
        (self.folder / "answers.json").write_text(json.dumps(self.answers))
        script = self.folder / "kubectl.py"
        script.write_text(SCRIPT.format(answers=str(self.folder / "answers.json")))
        words = shlex.join([sys.executable, str(script)])  # a path with a space cannot stand after #!
        (self.folder / "kubectl").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (self.folder / "kubectl").chmod(0o755)

    def placement(self, **kubeflow: Any) -> str:
        self.write()
        return check_placement("kubeflow", project(**kubeflow))

    def training(self, **kubeflow: Any) -> str:
        self.write()
        return check_training("kubeflow", project(**kubeflow))


def node(name: str, allocatable: dict[str, str], taints: list[dict[str, str]] | None = None) -> dict[str, Any]:
    labels = {"kubernetes.io/hostname": name, "gpu": str("nvidia.com/gpu" in allocatable).lower()}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": taints or []},
        "status": {"allocatable": allocatable},
    }


def claim(name: str, volume: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "spec": {"volumeName": volume, "accessModes": ["ReadWriteOnce"], "storageClassName": ""},
        "status": {"phase": "Bound"},
    }


def folder_of(volume: str, node: str) -> dict[str, Any]:
    where = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    terms = {"required": {"nodeSelectorTerms": [{"matchExpressions": [where]}]}}
    return {"metadata": {"name": volume}, "spec": {"hostPath": {"path": "/srv"}, "nodeAffinity": terms}}


def project(**kubeflow: Any) -> Project:
    one = load_project(PROJECT_FILE)
    return one.model_copy(update={"kubeflow": one.kubeflow.model_copy(update=kubeflow)})


def gpu_nodes(*steps: str) -> dict[str, Nodes]:
    tolerant = Nodes(selector={"gpu": "true"}, tolerations=(Toleration(key="gpu", operator="Exists"),))
    return dict.fromkeys(steps, tolerant)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", str(tmp_path))
    return Cluster(tmp_path)


def test_steps_on_the_node_with_the_folders_are_well(cluster: Cluster) -> None:
    assert cluster.placement() == "each step has one of the 2 nodes, which sees its volumes"


def test_a_folder_of_another_node_than_the_steps_is_an_error_beforehand(cluster: Cluster) -> None:
    with pytest.raises(SettingsError) as told:
        cluster.placement(nodes=gpu_nodes("train"))
    assert str(told.value).startswith("train may run on node-2 alone, and its claim data-pvc is a folder of node-1: ")
    assert "components/shared or components/nfs of infra/pv-pvc" in str(told.value)
    cluster.share()
    assert "each step has one of the 2 nodes" in cluster.placement(nodes=gpu_nodes("train"))


def test_a_folder_of_a_node_that_there_is_not_is_an_error_beforehand(cluster: Cluster) -> None:
    cluster.answers["pv"] = [folder_of(volume, "node-9") for volume in CLAIMS.values()]
    with pytest.raises(SettingsError, match="no node has the folder of data, the volume of data-pvc: set node= in"):
        cluster.placement()


@pytest.mark.parametrize(
    ("operator", "value", "label", "is_there"),
    [
        ("Gt", "3", "10", True),
        ("Gt", "3", "3", False),
        ("Lt", "3", "-1", True),
        ("Lt", "3", "03", False),
        ("Gt", "3", "true", False),
        ("Lt", "3", None, False),
    ],
)
def test_the_nodes_of_a_volume_may_be_told_by_a_number(
    cluster: Cluster, operator: str, value: str, label: str | None, is_there: bool
) -> None:
    term = {"matchExpressions": [{"key": "rack", "operator": operator, "values": [value]}]}
    cluster.answers["pv"][0]["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"] = [term]
    cluster.nodes[0]["metadata"]["labels"] |= {} if label is None else {"rack": label}
    if is_there:
        assert "which sees its volumes" in cluster.placement()
    else:
        with pytest.raises(SettingsError, match="no node has the folder of data"):
            cluster.placement()


def test_a_taint_that_no_toleration_names_keeps_a_step_away(cluster: Cluster) -> None:
    cluster.share()
    with pytest.raises(SettingsError, match="no node takes the pods of embed: it needs the labels gpu=true of kubefl"):
        cluster.placement(nodes={"embed": Nodes(selector={"gpu": "true"})})
    equal = Toleration(key="gpu", value="a", effect="NoSchedule")
    for toleration, fits in ((equal, True), (equal.model_copy(update={"value": "b"}), False)):
        nodes = {"embed": Nodes(selector={"gpu": "true"}, tolerations=(toleration,))}
        if fits:
            assert cluster.placement(nodes=nodes)
        else:
            with pytest.raises(SettingsError, match="no node takes the pods of embed"):
                cluster.placement(nodes=nodes)


def test_a_node_that_is_cordoned_takes_no_step(cluster: Cluster) -> None:
    cluster.share()
    cluster.nodes[0]["spec"]["unschedulable"] = True
    with pytest.raises(SettingsError, match="no node takes the pods of preprocess: it needs no taint but those that"):
        cluster.placement()


def test_a_claim_of_one_node_at_a_time_is_not_used_from_two(cluster: Cluster) -> None:
    """As of a class of block devices, which has no node until a pod uses it."""
    cluster.share()
    for each in cluster.answers["pvc"]:
        each["spec"]["accessModes"] = ["ReadWriteOnce"]
    with pytest.raises(SettingsError, match="the nodes of .*train.* have none in common, and their claim data-pvc is "):
        cluster.placement(nodes=gpu_nodes("train"))
    assert cluster.placement(nodes=gpu_nodes(*STEP_NAMES))


def test_a_cluster_that_can_train_on_several_nodes_is_well(cluster: Cluster) -> None:
    cluster.share()
    assert cluster.training(train=Training(nodes=2)) == "Kubeflow Trainer is there, and nodes have room for 2 pods"


def test_trainer_that_is_not_installed_is_named(cluster: Cluster) -> None:
    cluster.share()
    runtimes = "clustertrainingruntimes.trainer.kubeflow.org"
    cluster.answers[runtimes] = [{"metadata": {"name": "mpi"}}]
    with pytest.raises(SettingsError, match="no ClusterTrainingRuntime torch-distributed, but mpi: install those"):
        cluster.training(train=Training(nodes=2))
    del cluster.answers[runtimes]
    with pytest.raises(SettingsError, match="the cluster has no Kubeflow Trainer, .* install its release 2.2 or later"):
        cluster.training(train=Training(nodes=2))


def test_claims_of_one_node_are_refused_for_several(cluster: Cluster) -> None:
    with pytest.raises(SettingsError, match="kubeflow.train has 2 nodes, and the claim data-pvc is ReadWriteOnce, of"):
        cluster.training(train=Training(nodes=2))


@pytest.mark.parametrize(
    ("training", "room"),
    [
        (Training(nodes=9), "8 of the 9 pods"),  # 4 processors of node-1 at 500m
        (Training(nodes=2, gpus_per_node=2), "1 of the 2 pods of kubeflow.train, each with 2 GPUs and"),
        (Training(nodes=1, gpus_per_node=4), "0 of the 1 pods"),
    ],
)
def test_a_number_of_nodes_that_the_cluster_cannot_place_is_refused(
    cluster: Cluster, training: Training, room: str
) -> None:
    cluster.share()
    nodes = gpu_nodes("train") if training.gpus_per_node else {}
    with pytest.raises(SettingsError, match=f"the nodes have room for {room}"):
        cluster.training(train=training, nodes=nodes)


@pytest.mark.parametrize("right", ["create trainjobs.trainer.kubeflow.org", "get pods/log"])
def test_a_missing_right_is_named(cluster: Cluster, right: str) -> None:
    cluster.share()
    cluster.answers["rights"][right] = "no"
    with pytest.raises(SettingsError, match=f"account train-pipeline in namespace kubeflow may not {right}: uncomment"):
        cluster.training(train=Training(nodes=2))
    cluster.answers["rights"].clear()  # who may not ask for others
    with pytest.raises(KubectlError, match="cannot impersonate"):
        cluster.training(train=Training(nodes=2))


def test_a_class_that_makes_no_shared_volume_is_named(cluster: Cluster) -> None:
    pending = {"spec": {"storageClassName": "disks", "accessModes": ["ReadWriteMany"]}, "status": {"phase": "Pending"}}
    cluster.answers["pvc"] = [{"metadata": {"name": name}, **pending} for name in CLAIMS]
    cluster.answers["storageclasses"] = [{"metadata": {"name": "files"}}]
    cluster.write()
    with pytest.raises(SettingsError, match="data-pvc .* waits for the storage class disks, and the cluster has files"):
        check_claims("kubeflow", CLAIMS)
    cluster.answers["storageclasses"].append({"metadata": {"name": "disks"}})
    cluster.write()
    with pytest.raises(SettingsError, match="is not bound .Pending."):
        check_claims("kubeflow", CLAIMS)
    said = {"reason": "ProvisioningFailed", "message": "only support ReadWriteOnce\naccess mode"}
    cluster.answers["events"] = [said]
    cluster.write()
    with pytest.raises(SettingsError, match="class disks makes no ReadWriteMany volume .only support ReadWriteOnce "):
        check_claims("kubeflow", CLAIMS)


def test_a_class_that_waits_for_the_first_pod_is_well(cluster: Cluster) -> None:
    pending = {"spec": {"storageClassName": "files", "accessModes": ["ReadWriteMany"]}, "status": {"phase": "Pending"}}
    cluster.answers["pvc"] = [{"metadata": {"name": name}, **pending} for name in CLAIMS]
    late = {"metadata": {"name": "files"}, "volumeBindingMode": "WaitForFirstConsumer"}
    cluster.answers["storageclasses"] = [late]
    cluster.write()
    assert check_claims("kubeflow", CLAIMS).endswith("will be bound with the first pod")


def test_a_submission_checks_nodes_and_training_too(cluster: Cluster) -> None:
    class Server:
        namespace = "kubeflow"

    cluster.write()
    submit.check_cluster(Server(), project())  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="train may run on node-2 alone"):
        submit.check_cluster(Server(), project(nodes=gpu_nodes("train")))  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="the claim data-pvc is ReadWriteOnce"):
        submit.check_cluster(Server(), project(train=Training(nodes=2)))  # type: ignore[arg-type]
