"""The component drift: a CronJob that may read what is served, and start a run on Kubeflow, and nothing else."""

import os
from pathlib import Path
from typing import Any

import kubernetes_validate
import numpy as np
import pytest
import yaml

from contract.paths import ROOT
from pipeline.settings import load_params
from steps.drift.__main__ import main
from tests.support.drifting import collect, sample, serve
from tests.support.kustomized import Objects, changed, project_name
from tests.support.settings import PARAMS_FILE

COMPONENTS = ("collect", "drift")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return changed(tmp_path_factory.mktemp("drift"), COMPONENTS)


def pod(made: Objects, name: str = "drift") -> dict[str, Any]:
    spec: dict[str, Any] = made["CronJob", name]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return spec


def environment(made: Objects) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in pod(made)["containers"][0]["env"]}


def test_its_objects_are_valid_and_one_look_at_a_time(made: Objects) -> None:
    for kind in ("CronJob", "ServiceAccount", "Role", "RoleBinding"):
        kubernetes_validate.validate(made[kind, "drift"], "1.33", strict=True)
    job = made["CronJob", "drift"]["spec"]
    assert (job["schedule"], job["concurrencyPolicy"]) == ("17 * * * *", "Forbid")
    labels = job["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/part-of": project_name(), "sidecar.istio.io/inject": "false"}


def test_it_can_do_no_more_than_it_must(made: Objects) -> None:
    role = made["Role", "drift"]
    allowed = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    kubeflow = "pipelines.kubeflow.org"
    assert allowed == {(kubeflow, "experiments", "list"), (kubeflow, "runs", "list"), (kubeflow, "runs", "create")}
    binding = made["RoleBinding", "drift"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "drift", "namespace": "kubeflow"}]
    assert binding["roleRef"]["name"] == "drift"
    assert pod(made)["automountServiceAccountToken"] is False
    (container,) = pod(made)["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    token = environment(made)["KFP_TOKEN_FILE"]
    assert mounts == {"/deploy-model": True, "/collect": False, os.path.dirname(token): True, "/tmp": False}
    volumes = {volume["name"]: volume for volume in pod(made)["volumes"]}
    [source] = volumes["token"]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"
    assert source["serviceAccountToken"]["path"] == os.path.basename(token)


def test_its_image_has_scipy_and_its_code(made: Objects) -> None:
    (container,) = pod(made)["containers"]
    assert "-preprocess:" in container["image"]
    assert "\nscipy==" in (ROOT / "steps/preprocess/requirements.txt").read_text()
    assert "COPY steps/drift steps/drift" in (ROOT / "steps/Dockerfile").read_text()


def test_each_setting_reaches_the_job(tmp_path: Path) -> None:
    settings = {"drift_schedule": "'5'", "drift_days": "3", "drift_classes": "false", "drift_cooldown_hours": "6"}
    settings |= {"drift_host": "http://k:1", "claim": "serving-model-pvc", "collect_claim": "other-pvc"}
    made = changed(tmp_path, COMPONENTS, project="other", pipeline_namespace="training", **settings)
    (container,) = pod(made)["containers"]
    assert container["args"] == ["--experiment=other", "--days=3", "--classes=false", "--cooldown-hours=6"]
    assert environment(made)["KFP_HOST"] == "http://k:1"
    assert made["Role", "drift"]["metadata"]["namespace"] == "training"
    assert made["RoleBinding", "drift"]["metadata"]["namespace"] == "training"
    assert made["RoleBinding", "drift"]["subjects"][0] == {
        "kind": "ServiceAccount",
        "name": "drift",
        "namespace": "kubeflow",
    }
    assert made["RoleBinding", "rollout"]["subjects"][0]["namespace"] == "training"
    volumes = {volume["name"]: volume for volume in pod(made)["volumes"]}
    claims = {name: volumes[name]["persistentVolumeClaim"]["claimName"] for name in ("deploy-model", "collect")}
    assert claims == {"deploy-model": "serving-model-pvc", "collect": "other-pvc"}


def test_with_a_prefix_it_is_another_projects(tmp_path: Path) -> None:
    made = changed(tmp_path, COMPONENTS, namePrefix="digits-")
    assert pod(made, "digits-drift")["serviceAccountName"] == "digits-drift"
    binding = made["RoleBinding", "digits-drift"]
    assert (binding["roleRef"]["name"], binding["subjects"][0]["name"]) == ("digits-drift", "digits-drift")
    assert made["RoleBinding", "digits-rollout"]["subjects"][0]["name"] == "train-pipeline"


def test_its_command_runs_as_it_stands(
    made: Objects, volumes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (container,) = pod(made)["containers"]
    for name, value in environment(made).items():
        monkeypatch.setenv(name, value)
    draw = np.random.default_rng(0)
    serve(volumes, sample(draw, 200))
    collect(volumes, sample(draw, 60, scale=3.0))
    assert container["command"][:4] == ["python3", "-m", "steps.drift", "check"]
    assert main([*container["command"][3:], *container["args"]]) == 0
    assert capsys.readouterr().out.startswith("watch: ")


def test_its_settings_are_those_of_params(made: Objects) -> None:
    drift = load_params(PARAMS_FILE).drift
    arguments = dict(word[2:].split("=") for word in pod(made)["containers"][0]["args"])
    assert (int(arguments["days"]), arguments["classes"]) == (drift.days, str(drift.classes).lower())
    assert yaml.safe_load(arguments["cooldown-hours"]) == 24
