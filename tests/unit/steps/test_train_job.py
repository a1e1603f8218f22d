"""Train as a TrainJob: created, followed, found again, deleted; each refusal in one sentence. The API is a stand-in."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.events import Epoch, Failed, Finished, Started, Waiting, Warned, line, parse
from contract.paths import ROOT
from pipeline.kubeflow.train_job import manifest
from pipeline.placement import Nodes, Toleration, Training
from pipeline.settings import Project, load_project
from steps.common.cluster import api as kubernetes_api
from steps.common.errors import StepError
from steps.preprocess.preprocess import preprocess
from steps.train.cluster import follow as followed
from steps.train.cluster.follow import follow
from steps.train.train import train
from tests.stand_ins.kubernetes_http import Server
from tests.stand_ins.trainer import Trainer, check
from tests.support.examples import PARAMS
from tests.support.settings import PROJECT_FILE
from tests.support.switching import kubeconfig

NAME = "train-0123456789abcdef"
ID = "0123456789abcdef"
EPOCHS = [line(Epoch(number, 3, 1 / number, 0.5, "train")) for number in (1, 2, 3)]


def project(**kubeflow: Any) -> Project:
    one = load_project(PROJECT_FILE)
    return one.model_copy(update={"kubeflow": one.kubeflow.model_copy(update=kubeflow)})


TEMPLATE = json.dumps(manifest(project(train=Training(nodes=3)), "registry.example/train:1"))


def rules() -> list[dict[str, Any]]:
    """Those that components/training of infra/pv-pvc adds."""
    changes = yaml.safe_load((ROOT / "infra/pv-pvc/components/training/rules.yaml").read_text())
    return [change["value"] for change in changes]


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    """A cluster with Trainer, which kubectl's settings name."""
    one = Trainer(rules())
    one.says = list(EPOCHS)
    with Server(one) as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", server.url)))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setenv("POD_NAMESPACE", "kubeflow")
        monkeypatch.setenv("POD_NAME", "launcher")
        monkeypatch.setattr(kubernetes_api, "BACKOFF_SECONDS", 0.001)
        monkeypatch.setattr(followed, "POLL_SECONDS", 0.001)
        monkeypatch.setattr(followed, "GONE_SECONDS", 5.0)
        yield one


def run(is_made: bool = False) -> None:
    follow(TEMPLATE, ID, ["network", "--train=a"], lambda: is_made)


def told(capsys: pytest.CaptureFixture[str], *kinds: type) -> list[Any]:
    events = [parse(each) for each in capsys.readouterr().out.splitlines()]
    return [event for event in events if isinstance(event, kinds)]


@pytest.mark.parametrize(
    "kubeflow",
    [
        {"train": Training(nodes=2)},
        {"train": Training(nodes=16, gpus_per_node=8), "name_prefix": "digits-", "image_pull_secret": "login"},
        {
            "train": Training(nodes=2, gpus_per_node=1),
            "nodes": {"train": Nodes(selector={"a/b": "c"}, tolerations=(Toleration(key="gpu", operator="Exists"),))},
        },
    ],
)
def test_every_job_keeps_to_trainers_crd(kubeflow: dict[str, Any]) -> None:
    job = manifest(project(**kubeflow), "registry.example/train:1")
    check(job)
    assert job["spec"]["trainer"]["numNodes"] == kubeflow["train"].nodes
    assert job["spec"]["trainer"]["numProcPerNode"] == max(kubeflow["train"].gpus_per_node, 1)


def test_the_stand_in_is_as_strict_as_the_crd() -> None:
    import jsonschema

    job = json.loads(TEMPLATE)
    for wrong in ({"nodes": 3}, {"numNodes": "3"}, {"resourcesPerNode": {"requests": {"cpu": "much"}}}):
        spec = {**job["spec"], "trainer": {**job["spec"]["trainer"], **wrong}}
        with pytest.raises(jsonschema.ValidationError):
            check({**job, "spec": spec})
    with pytest.raises(jsonschema.ValidationError, match="RFC 1035"):
        check({**job, "metadata": {"name": "1-train"}})


def test_a_job_mounts_the_claims_and_runs_where_train_may() -> None:
    toleration = Toleration(key="gpu", operator="Exists", effect="NoSchedule")
    nodes = {"train": Nodes(selector={"gpu": "true"}, tolerations=(toleration,))}
    one = project(
        train=Training(nodes=4, gpus_per_node=2), nodes=nodes, node_selector={"disk": "fast"}, name_prefix="digits-"
    )
    job = manifest(one, "registry.example/train:1")
    (patch,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = patch["template"]["spec"]["template"]["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if v["name"] != "shm"}
    assert claims == {"data": "digits-data-pvc", "model": "digits-train-model-pvc"}
    assert {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]} == {"/data", "/model", "/dev/shm"}
    assert pod["nodeSelector"] == {"disk": "fast", "gpu": "true"}
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert job["spec"]["trainer"]["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "2"
    labels = patch["template"]["spec"]["template"]["metadata"]["labels"]
    (spread,) = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert spread["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= labels.items()
    assert spread["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"


def test_its_progress_is_relayed_once_and_it_is_deleted_at_its_end(
    trainer: Trainer, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer.says = [line(Started("train")), EPOCHS[0], "words of a library", *EPOCHS[1:], line(Finished("train"))]
    run()
    (job,) = trainer.created
    assert job["metadata"]["name"] == NAME
    assert job["metadata"]["ownerReferences"][0]["kind"] == "Workflow", "with which a job that was left behind goes"
    assert job["spec"]["trainer"]["args"] == ["network", "--train=a"]
    said = capsys.readouterr().out.splitlines()
    assert said == [EPOCHS[0], "words of a library", *EPOCHS[1:]]
    assert trainer.deleted == [NAME]


def test_the_role_of_infra_grants_what_was_used_and_nothing_else(trainer: Trainer) -> None:
    run()
    granted = {
        (group, resource, verb)
        for rule in trainer.rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == trainer.used


@pytest.mark.parametrize(
    ("resource", "verb"), [("trainjobs", "create"), ("trainjobs", "get"), ("pods", "list"), ("pods/log", "get")]
)
def test_a_missing_role_is_named(trainer: Trainer, resource: str, verb: str) -> None:
    for rule in trainer.rules:
        if resource in rule["resources"]:
            rule["verbs"] = [each for each in rule["verbs"] if each != verb]
    with pytest.raises(StepError, match=f"may not {verb} {resource} in namespace kubeflow .*components/training"):
        run()
    assert resource == "pods/log" or not trainer.created, "before anything is created"


def test_a_cluster_without_trainer_is_named(trainer: Trainer) -> None:
    trainer.installed = False
    with pytest.raises(StepError, match="no TrainJobs: install Kubeflow Trainer 2.2 or later, or set kubeflow.train"):
        run()


def test_what_trainers_webhook_refuses_is_said_in_its_words(trainer: Trainer) -> None:
    trainer.runtimes = set()
    with pytest.raises(StepError, match="refuses the TrainJob: admission webhook .*clusterTrainingRuntime must be"):
        run()


def test_a_failed_job_fails_the_step_with_the_reasons(trainer: Trainer) -> None:
    trainer.ends = ("Failed", "FailedJobs", "jobset failed due to one or more job failures")

    def crash(look: int) -> None:
        if look == 6:
            ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
            trainer.pods[NAME][1]["status"]["containerStatuses"][0].update(state=ended, ready=False)

    trainer.on_look = crash
    with pytest.raises(StepError, match=f"{NAME} failed: jobset failed due .*; node 1 ended with 137 .OOMKilled"):
        run()
    assert NAME in trainer.jobs, "it stays, to be looked at, until its run's workflow goes"


def test_an_error_that_a_restart_would_repeat_ends_the_job(trainer: Trainer) -> None:
    trainer.says = [EPOCHS[0], line(Failed("the loss is nan: lower train.learning_rate", "train"))]
    trainer.ends = ("", "", "")
    with pytest.raises(StepError, match="the loss is nan"):
        run()
    assert trainer.deleted == [NAME]


def test_an_error_of_before_a_restart_of_the_container_is_not_missed(trainer: Trainer) -> None:
    trainer.ends = ("", "", "")

    def restart(look: int) -> None:
        if look == 5:
            pod = trainer.pods[NAME][0]
            trainer.earlier[pod["metadata"]["name"]] = "\n".join([*EPOCHS[:2], line(Failed("no space", "train"))])
            pod["status"]["containerStatuses"][0]["restartCount"] = 1

    trainer.on_look = restart
    with pytest.raises(StepError, match="no space"):
        run()


def test_a_killed_step_deletes_its_job(trainer: Trainer) -> None:
    trainer.on_look = lambda look: os.kill(os.getpid(), signal.SIGTERM) if look == 4 else None
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 128 + signal.SIGTERM
    assert trainer.deleted == [NAME]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_step_that_is_tried_again_finds_its_job(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    """As after SIGKILL, or with a node that was lost: the job goes on meanwhile."""
    job = {**json.loads(TEMPLATE), "metadata": {"name": NAME}}
    trainer.jobs[NAME], trainer.pods[NAME] = job, []
    run()
    assert trainer.created == []
    assert len(told(capsys, Epoch)) == 3
    assert trainer.deleted == [NAME]


def test_a_failed_job_of_an_earlier_try_gives_way(trainer: Trainer) -> None:
    ended = {"conditions": [{"type": "Failed", "status": "True", "reason": "FailedJobs", "message": "before"}]}
    trainer.jobs[NAME] = {**json.loads(TEMPLATE), "metadata": {"name": NAME}, "status": ended}
    trainer.pods[NAME] = []
    run()
    assert len(trainer.created) == 1
    assert trainer.deleted == [NAME, NAME]


def test_a_lost_node_is_answered_with_a_new_job(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    def lose(look: int) -> None:
        if look == 5 and len(trainer.created) == 1:
            trainer.pods[NAME][2] = trainer.pod(NAME, 2)

    trainer.on_look = lose
    run()
    assert len(trainer.created) == 2
    (warned,) = told(capsys, Warned)
    assert "the pod of node 2 was lost, so a new TrainJob goes on from the last checkpoint" in warned.message


def test_a_job_that_somebody_deleted_is_made_again_unless_its_network_is_there(trainer: Trainer) -> None:
    made = [False]

    def remove(look: int) -> None:
        if look == 4:
            trainer.lose(NAME)
            made[0] = len(trainer.created) == 2

    trainer.on_look = remove
    follow(TEMPLATE, ID, [], lambda: made[0])
    assert len(trainer.created) == 2, "the second was deleted by a run that had followed it to its end"


def test_a_pod_that_does_not_go_away_keeps_a_second_training_from_beginning(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would write the checkpoint: so it is with a node that Kubernetes does not reach."""
    monkeypatch.setattr(followed, "GONE_SECONDS", 0.05)
    trainer.on_look = lambda look: trainer.jobs.clear() if look == 3 else None
    with pytest.raises(StepError, match=f"the deleted TrainJob {NAME} or a pod of it is still there"):
        run()
    assert len(trainer.created) == 1


def test_jobs_that_are_lost_again_and_again_are_an_error(trainer: Trainer) -> None:
    trainer.on_look = lambda look: trainer.lose(NAME) if look == 3 else None
    with pytest.raises(StepError, match=f"{NAME} was lost 10 times"):
        run()


def test_the_job_goes_on_while_the_api_is_away(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer.on_look = lambda look: trainer.trouble.extend([503] * 9) if look == 4 else None
    run()
    assert len(trainer.created) == 1
    monkeypatch.setattr(followed, "OUTAGE_SECONDS", 0.0)
    trainer.on_look = lambda look: trainer.trouble.extend([503] * 99) if look == 4 else None
    with pytest.raises(StepError, match="the Kubernetes API answers 503 to list pods in kubeflow"):
        run()


def test_what_the_pods_wait_for_is_said_once(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}

    def wait(look: int) -> None:
        if look in (3, 4):
            trainer.pods[NAME][1]["status"]["conditions"] = [said]
        elif look == 5:
            trainer.pods[NAME][1]["status"]["conditions"] = []

    trainer.on_look = wait
    run()
    (waited,) = told(capsys, Waiting)
    assert waited.message == f"the TrainJob {NAME} waits: node 1: Unschedulable: 0/3 nodes are available"


@pytest.mark.slow
def test_a_network_of_a_job_has_the_id_of_one_that_the_step_trains(
    trainer: Trainer, volumes: Path, few_digits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = preprocess(PARAMS["data"])
    parameters = {**PARAMS["train"], "epochs": 1, "batch_size": 100, "widths": [4, 4]}
    id = train(ids["train"], ids["validation"], parameters)
    (volumes / "model/network" / id).rename(volumes / "away")
    monkeypatch.setenv("TRAIN_JOB", TEMPLATE)
    trainer.on_end = lambda _: (volumes / "away").rename(volumes / "model/network" / id) and None
    assert train(ids["train"], ids["validation"], parameters) == id
    (job,) = trainer.created
    assert job["metadata"]["name"] == f"train-{id}"
    network, *words = job["spec"]["trainer"]["args"]
    assert network == "network"
    assert words[:2] == [f"--train={ids['train']}", f"--validation={ids['validation']}"]
    assert train(ids["train"], ids["validation"], parameters) == id
    assert len(trainer.created) == 1, "which is there already"
    with pytest.raises(StepError, match="train.batch_size is 4: 3 processes need 6 or more"):
        train(ids["train"], ids["validation"], {**parameters, "batch_size": 4})
    assert len(trainer.created) == 1
