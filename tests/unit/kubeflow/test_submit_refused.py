"""What `submit` refuses: one sentence with the remedy, status 2, and nothing created on the server."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.images.tag import NAMES
from tests.stand_ins.kfp import Kfp, look
from tests.stand_ins.kfp_http import Server
from tests.support.kubeflow_project import Run, git, made
from tests.support.settings import PROJECT_FILE

CLAIMS = ("data-pvc", "train-model-pvc", "deploy-model-pvc")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a command printed one sentence with these words, and ended with status 2."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.endswith(" (make doctor checks all that a run needs)\n")
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"KFP_HOST": ""}, "there is no Kubeflow host"),
        ({"KFP_HOST": "kubeflow.example"}, "the Kubeflow host is 'kubeflow.example'"),
        ({"KFP_HOST": "http://[::1"}, "the Kubeflow host is 'http://[::1'"),
        ({"KFP_TOKEN": "wrong"}, "does not accept the token (401"),
        ({"KFP_TOKEN": ""}, "does not accept the token (401"),
    ],
)
def test_a_wrong_host_or_token_is_refused(run: Run, kfp: Kfp, more: dict[str, str], message: str) -> None:
    refused(run("submit", "--wait", **more), message)
    assert made(kfp) == [0] * 5


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("other", "does not let this token use the namespace 'other'"),
        ("", "no namespace is given: set --namespace or"),
    ],
)
def test_an_unknown_namespace_is_refused(run: Run, kfp: Kfp, given: str, message: str) -> None:
    kfp.namespaces = ("mine",)
    refused(run("submit", "--wait", KFP_NAMESPACE=given), message, "KFP_NAMESPACE")
    assert made(kfp) == [0] * 5


@pytest.mark.slow  # it is asked for 14 seconds
def test_a_server_that_is_down_is_named(run: Run, kfp: Kfp) -> None:
    with Server(kfp) as gone:
        pass
    refused(run("submit", "--wait", KFP_HOST=f"http://{gone.address}"), "does not answer", "see that the server runs")
    assert (made(kfp), kfp.asked) == ([0] * 5, [])


@pytest.mark.parametrize("lacking", ["train", pytest.param("serving", marks=pytest.mark.slow)])
def test_a_missing_image_is_named(run: Run, kfp: Kfp, lacking: str) -> None:
    name = yaml.safe_load(PROJECT_FILE.read_text())["name"]
    kfp.images = {f"{name}-{image}" for image in NAMES if image != lacking}
    refused(run("submit"), f"/{name}-{lacking}:", "push what is missing with make push")
    assert made(kfp) == [0] * 5


@pytest.mark.slow
def test_a_registry_that_is_down_is_named(run: Run, kfp: Kfp, committed: Path) -> None:
    path = committed / "project.yaml"
    settings = yaml.safe_load(path.read_text())
    with Server(kfp) as gone:
        pass
    path.write_text(yaml.safe_dump({**settings, "registry": gone.address}))
    git(committed, "commit", "--quiet", "--all", "-m", "Two")
    refused(run("submit"), f"the registry {gone.address} does not answer", "set another `registry`")
    assert made(kfp) == [0] * 5


def kubectl(folder: Path, phases: dict[str, str]) -> str:
    """A PATH with a kubectl that prints these phases of the claims."""
    folder.mkdir()
    items = [{"metadata": {"name": name}, "status": {"phase": phase}} for name, phase in phases.items()]
    (folder / "answer.json").write_text(json.dumps({"items": items}))
    (folder / "kubectl").write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\ncat {folder}/answer.json\n')
    (folder / "kubectl").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.mark.parametrize(
    "command", [("submit", "--wait"), pytest.param(("schedule", "--cron", "0 3 * * *"), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ({}, f"has no claim {', '.join(CLAIMS)}: make them with kubectl apply -k infra/pv-pvc"),
        (
            {**dict.fromkeys(CLAIMS, "Bound"), CLAIMS[1]: "Pending"},
            "train-model-pvc in namespace kubeflow is not",
        ),
    ],
)
def test_a_missing_or_unbound_claim_is_named(
    run: Run, kfp: Kfp, tmp_path: Path, command: tuple[str, ...], phases: dict[str, str], message: str
) -> None:
    refused(run(*command, PATH=kubectl(tmp_path / "bin", phases)), message)
    assert made(kfp) == [0] * 5
    assert "get pvc -n kubeflow " in (tmp_path / "bin/asked").read_text()


@pytest.mark.slow
def test_bound_claims_pass(run: Run, kfp: Kfp, tmp_path: Path) -> None:
    kfp.namespaces = ("mine",)
    done = run("submit", KFP_NAMESPACE="mine", PATH=kubectl(tmp_path / "bin", dict.fromkeys(CLAIMS, "Bound")))
    assert (done.returncode, done.stderr) == (0, "")
    assert "get pvc -n mine " in (tmp_path / "bin/asked").read_text()  # where the pods are


@pytest.mark.parametrize(
    "steps",
    [{}, *(pytest.param({"preprocess": state}, marks=pytest.mark.slow) for state in ("PENDING", "RUNNING/PENDING"))],
)
def test_a_run_whose_pods_never_start_is_stopped_at_the_deadline(run: Run, kfp: Kfp, steps: dict[str, Any]) -> None:
    kfp.script = [look("RUNNING", **steps)]
    done = run("submit", "--wait", "--poll", "0.1", "--timeout", "0.005")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no pod of the run has started within 0.005 minutes, so it was stopped")
    assert "see that the project's claims are bound (kubectl get pvc -n kubeflow;" in done.stderr
    assert kfp.runs[0]["state"] == "CANCELING"


FULL = "0/1 nodes are available: 1 Insufficient cpu."
DOCTOR = "(make doctor checks all that a run needs)"
REFUSED = 'pods "train-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'


def cluster_with(folder: Path, *, pods: list[Any] | None = None, nodes: dict[str, Any] | None = None) -> str:
    """A PATH with a kubectl that knows bound claims, and these pods and Argo nodes of a run."""
    path = kubectl(folder, dict.fromkeys(CLAIMS, "Bound"))
    (folder / "pods.json").write_text(json.dumps({"items": pods or []}))
    (folder / "workflows.json").write_text(json.dumps({"items": [{"status": {"nodes": nodes or {}}}]}))
    asked = f'case "$*" in *"get pods"*) cat {folder}/pods.json;; *"get workflows"*) cat {folder}/workflows.json;;'
    (folder / "kubectl").write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/asked\n{asked} *) cat {folder}/answer.json;; esac\n'
    )
    return path


@pytest.mark.parametrize(
    "done_before", [pytest.param({}, marks=pytest.mark.slow), {"preprocess": "SUCCEEDED", "validate": "SUCCEEDED"}]
)
@pytest.mark.slow
def test_a_pod_that_fits_no_node_ends_the_wait_with_its_cause(
    run: Run, kfp: Kfp, tmp_path: Path, done_before: dict[str, Any]
) -> None:
    kfp.script = [look("RUNNING", **done_before, train="RUNNING/PENDING")]
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": FULL}
    path = cluster_with(tmp_path / "bin", pods=[{"status": {"conditions": [unschedulable]}}])
    done = run("submit", "--wait", "--poll", "0.1", "--timeout", "0.005", PATH=path)
    assert done.returncode == 2
    assert done.stderr.endswith(f"so it was stopped: Unschedulable: {FULL} {DOCTOR}\n")
    assert ("no pod of train" if done_before else "no pod of the run") in done.stderr
    assert "train: pending\n" in done.stdout
    assert kfp.runs[0]["state"] == "CANCELING"
    asked = (tmp_path / "bin/asked").read_text()
    assert f"get pods -n kubeflow -l pipeline/runid={kfp.runs[0]['run_id']} " in asked


@pytest.mark.slow
def test_a_pod_that_is_always_refused_ends_the_wait_before_the_deadline(run: Run, kfp: Kfp, tmp_path: Path) -> None:
    """Argo retries each level of the workflow: after the step's own retries, the step as a whole."""
    refused_once = look("RUNNING", train="RUNNING/FAILED/FAILED/FAILED")
    again = look("RUNNING", train="RUNNING/FAILED/FAILED/FAILED")
    tasks = again["run_details"]["task_details"]
    tasks.append({**next(task for task in tasks if task["display_name"] == "train(0)"), "display_name": "train(1)"})
    kfp.script = [refused_once, again]
    node = {"1": {"type": "Pod", "displayName": "executor(0)", "phase": "Error", "message": REFUSED}}
    done = run("submit", "--wait", "--poll", "0.1", PATH=cluster_with(tmp_path / "bin", nodes=node))
    assert done.returncode == 2
    assert done.stderr.startswith("error: no pod of train starts, though it was tried as often as")
    assert done.stderr.endswith(f"so it was stopped: {REFUSED} {DOCTOR}\n")
    assert kfp.runs[0]["state"] == "CANCELING"


def test_uncommitted_changes_are_refused(run: Run, kfp: Kfp, committed: Path) -> None:
    (committed / "params.yaml").write_text((committed / "params.yaml").read_text() + "# changed\n")
    try:
        done = run("submit")
    finally:
        git(committed, "checkout", "--quiet", "params.yaml")
    refused(done, "(params.yaml)", "commit or undo them")
    assert (made(kfp), kfp.asked) == ([0] * 5, [])
