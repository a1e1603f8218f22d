"""The doctor: a line for each check, ok or what to do; kubectl is a script."""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline.kubeflow import doctor as checks
from pipeline.kubeflow.cluster import claims_namespace
from tests.stand_ins.kfp import Kfp
from tests.stand_ins.kfp_http import Server
from tests.support.forked import Forked
from tests.support.kubeflow_project import IMPORTS
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

CLAIMS = ("data-pvc", "train-model-pvc", "deploy-model-pvc")
THERE = [*CLAIMS, "torchserve"]  # whatever kubectl is asked for
BOUND = {"items": [{"metadata": {"name": name}, "status": {"phase": "Bound"}} for name in THERE]}


def kubectl(folder: Path, answer: dict[str, Any] | None) -> None:
    """Write a script that answers as kubectl; None: it has no cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "answer.json").write_text(json.dumps(answer))
    script = f"cat {folder}/answer.json" if answer is not None else "echo 'connection refused' >&2; exit 1"
    (folder / "kubectl").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "kubectl").chmod(0o755)


@pytest.fixture(scope="module")
def here() -> Iterator[Forked]:
    """This repository's own commands."""
    with Forked(ROOT, "pipeline", IMPORTS, os.environ) as commands:
        yield commands


def doctor(tmp_path: Path, here: Forked, kfp: Kfp, answer: dict[str, Any] | None, **kubeflow: Any) -> dict[str, str]:
    """The lines of the doctor, by the name of the check."""
    kubectl(tmp_path / "bin", answer)
    settings = yaml.safe_load(PROJECT_FILE.read_text())
    settings["kubeflow"].update(kubeflow)
    with Server(kfp) as server:
        path = tmp_path / "project.yaml"
        path.write_text(yaml.safe_dump({**settings, "registry": server.address}))
        environment = {
            **os.environ,
            **{"KFP_HOST": f"http://{server.address}", "KFP_TOKEN": "right"},
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        }
        done = here.run("doctor", "--project", path, environment=environment)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert all(line.startswith(("ok      ", "NOT OK  ")) for line in lines)
    assert done.returncode == (2 if any(line.startswith("NOT") for line in lines) else 0)
    return {line[8:].split(": ")[0]: line for line in lines}


def test_every_check_can_pass(tmp_path: Path, here: Forked) -> None:
    said = doctor(tmp_path, here, Kfp(), BOUND)
    said.pop("revision")  # this working tree's
    assert "names other images than those of 127.0.0.1" in said.pop("manifests"), "which have a real registry's"
    checked = {"params.yaml", "torch", "engine", "images", "Kubeflow", "claims", "nodes", "processors", "serving"}
    assert set(said) == {str(tmp_path / "project.yaml"), *checked}
    assert [line for line in said.values() if not line.startswith("ok ")] == []


def test_every_failed_check_says_what_to_do(tmp_path: Path, here: Forked) -> None:
    kfp = Kfp(token="another")
    kfp.images = set()
    said = doctor(tmp_path, here, kfp, None, gpus=1)
    assert "answers; it lacks preprocess" in said["images"]
    assert said["Kubeflow"].startswith("NOT OK  Kubeflow: http")
    assert "set KFP_TOKEN" in said["Kubeflow"]
    assert "(connection refused): choose the cluster" in said["claims"]
    assert said["GPU"].startswith("NOT OK")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], f"namespace {claims_namespace()} has no claim data-pvc, train-model-pvc, deploy-model-pvc: make"),
        ([*BOUND["items"][:2], {"metadata": {"name": CLAIMS[2]}, "status": {"phase": "Lost"}}], "is not bound (Lost)"),
        ([*BOUND["items"][:2], {"metadata": {"name": CLAIMS[2]}, "status": {}}], "deploy-model-pvc in namespace"),
    ],
)
def test_a_missing_or_unbound_claim_is_named(
    tmp_path: Path, here: Forked, items: list[dict[str, Any]], message: str
) -> None:
    said = doctor(tmp_path, here, Kfp(), {"items": items})
    assert said["claims"].startswith("NOT OK")
    assert message in said["claims"]


def test_a_claim_on_its_way_out_is_named_though_its_phase_is_bound(tmp_path: Path, here: Forked) -> None:
    going = {"metadata": {"name": CLAIMS[1], "deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Bound"}}
    said = doctor(tmp_path, here, Kfp(), {"items": [BOUND["items"][0], going, *BOUND["items"][2:]]})
    assert said["claims"].startswith(f"NOT OK  claims: {CLAIMS[1]} in namespace {claims_namespace()} is being deleted")


def test_the_claims_of_another_project_are_a_clash(tmp_path: Path, here: Forked) -> None:
    label = {"app.kubernetes.io/part-of": "letters"}
    theirs = [{"metadata": {"name": name, "labels": label}, "status": {"phase": "Bound"}} for name in THERE]
    said = doctor(tmp_path, here, Kfp(), {"items": theirs})
    assert "belongs to the project letters: choose other names with kubeflow.name_prefix" in said["claims"]
    assert "serves the project letters, and this one's deploy would replace its model: choose ano" in said["serving"]
    ours = [{"metadata": {"name": f"digits-{name}"}, "status": {"phase": "Bound"}} for name in THERE]
    said = doctor(tmp_path / "other", here, Kfp(), {"items": [*theirs, *ours]}, name_prefix="digits-")
    assert said["claims"].startswith("ok      claims: digits-data-pvc, digits-train-model-pvc, digits-deploy-model-pvc")
    assert said["serving"] == "ok      serving: namespace kubeflow has the Deployment digits-torchserve"


def test_a_volume_that_is_reserved_for_another_namespace_is_named(tmp_path: Path, here: Forked) -> None:
    pending = {"metadata": {"name": CLAIMS[0]}, "spec": {"volumeName": "digits-data"}, "status": {"phase": "Pending"}}
    volume = {"metadata": {"name": "digits-data"}, "spec": {"claimRef": {"namespace": "elsewhere"}}}
    said = doctor(tmp_path, here, Kfp(), {"items": [pending, *BOUND["items"][1:], volume]})
    assert (
        "since its volume digits-data is reserved for namespace elsewhere: delete the volume, whose folder"
        in said["claims"]
    )


@pytest.mark.parametrize(("there", "well"), [("2", True), ("1", False), (None, False)])
def test_gpus_are_counted_if_the_settings_request_any(
    tmp_path: Path, here: Forked, there: str | None, well: bool
) -> None:
    allocatable = {"nvidia.com/gpu": there} if there else {}
    said = doctor(
        tmp_path, here, Kfp(), {"items": [{"metadata": {"name": "n"}, "status": {"allocatable": allocatable}}]}, gpus=2
    )
    assert said["GPU"].startswith("ok") is well


def test_a_wrong_setting_ends_the_checks(tmp_path: Path, here: Forked) -> None:
    said = doctor(tmp_path, here, Kfp(), BOUND, retries="many")
    assert list(said) == [str(tmp_path / "project.yaml"), "params.yaml"]
    assert "kubeflow.retries: is 'many'" in said[str(tmp_path / "project.yaml")]


def test_a_cluster_without_the_deployment_says_how_to_create_it(tmp_path: Path, here: Forked) -> None:
    said = doctor(tmp_path, here, Kfp(), {"items": BOUND["items"][:3]})
    assert said["serving"].startswith("NOT OK  serving: namespace kubeflow has no Deployment torchserve")
    assert "kubectl apply -k infra/torchserve, or kubeflow.serving_namespace: null" in said["serving"]
    assert "serving" not in doctor(tmp_path, here, Kfp(), {"items": BOUND["items"][:3]}, serving_namespace=None)


def test_the_namespace_of_the_runs_must_be_that_of_the_claims(
    tmp_path: Path, here: Forked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_NAMESPACE", "mine")
    said = doctor(tmp_path, here, Kfp(namespaces=("mine",)), BOUND)
    assert f"in namespace mine, and infra/pv-pvc makes their claims in {claims_namespace()}: set" in said["Kubeflow"]


@pytest.mark.parametrize(
    ("processors", "message"),
    [
        (["amd64", "amd64"], "ok      processors: images and nodes are linux/amd64"),
        (["arm64"], "NOT OK  processors: nodes are linux/arm64, and the images are for linux/amd64: set kubeflow."),
        (["arm64", "amd64"], "keep the pods from linux/arm64 by kubeflow.node_selector: {kubernetes.io/arch: ...}"),
    ],
)
def test_the_processors_of_images_and_nodes_are_compared(
    tmp_path: Path, here: Forked, processors: list[str], message: str
) -> None:
    nodes = [{"metadata": {"name": "n"}, "status": {"nodeInfo": {"architecture": each}}} for each in processors]
    assert message in doctor(tmp_path, here, Kfp(), {"items": nodes})["processors"]


def test_checks_that_hang_are_waited_for_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kubectl").write_text("#!/bin/sh\nexec sleep 5\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(checks, "_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        settings = yaml.safe_load(PROJECT_FILE.read_text())
        (tmp_path / "project.yaml").write_text(yaml.safe_dump({**settings, "registry": address}))
        began = time.monotonic()
        found = {
            check.name: check.found
            for check in checks.examine(tmp_path / "project.yaml", PARAMS_FILE, f"http://{address}", None, None)
        }
        assert time.monotonic() - began < 2  # one after the other they take four times as long
    hanging = {name for name, text in found.items() if text.startswith("no answer within 0.5 seconds")}
    assert hanging >= {"images", "Kubeflow", "claims", "processors", "serving"}


def test_the_build_of_torch_is_named_with_what_chose_it() -> None:
    from install.torch import told

    said = told("auto", "cpu", "2.13.0+cpu")
    assert said.startswith("2.13.0+cpu, the CPU build (TORCH=auto, and NVIDIA's driver was not seen): make install ")
    assert "the CUDA build (TORCH=auto, and NVIDIA's driver was seen)" in told("auto", "cuda", "2.13.0")
    assert "the CPU build (TORCH=cpu)" in told("cpu", "cpu", "2.13.0+cpu")
