"""Serving on Kubernetes: the objects of `kubectl apply -k infra/torchserve`, with and without each component."""

import itertools
import re
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from contract.paths import ROOT
from pipeline.settings import load_project
from serving import __main__ as serving
from serving.front.door import DRAIN_SECONDS
from serving.torchserve.server import END_SECONDS
from tests.support.kustomized import (
    ACCOUNT,
    COMPONENTS,
    CUSTOM,
    FOLDER,
    Objects,
    built,
    changed,
    container,
    deployment,
    pod,
    project_name,
)

CHOICES = [(), *((one,) for one in COMPONENTS), COMPONENTS]
STAMP = "continuous-training/model-version"
RIGHTS_THERE = {("Role", "drift"), ("RoleBinding", "drift")}  # in the pipeline's namespace


@pytest.fixture(scope="module")
def base() -> Objects:
    return built(FOLDER)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return changed(tmp_path_factory.mktemp("everything"), COMPONENTS)


@pytest.mark.parametrize("components", CHOICES, ids=lambda chosen: "+".join(chosen) or "base")
def test_every_object_is_valid_and_of_this_project(tmp_path: Path, components: tuple[str, ...]) -> None:
    made = changed(tmp_path, components, namespace="elsewhere")
    for (kind, name), one in made.items():
        in_pipelines = (kind, name) in RIGHTS_THERE
        assert one["metadata"]["namespace"] == ("kubeflow" if in_pipelines else "elsewhere")
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == project_name()
        if kind not in CUSTOM:
            kubernetes_validate.validate(one, "1.33", strict=True)
    assert ({kind for kind, _ in made} >= CUSTOM) == ("monitoring" in components)


def test_the_base_has_only_the_objects_of_serving(base: Objects) -> None:
    assert sorted(base) == [
        ("Deployment", "torchserve"),
        ("NetworkPolicy", "torchserve"),
        ("PodDisruptionBudget", "torchserve"),
        ("Role", "rollout"),
        ("RoleBinding", "rollout"),
        ("Service", "torchserve"),
        ("ServiceAccount", "torchserve"),
    ]


def test_a_rolling_update_waits_for_ready_pods(base: Objects) -> None:
    spec = deployment(base)
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert base["PodDisruptionBudget", "torchserve"]["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("folder", [FOLDER, FOLDER / "rollback"], ids=["serving", "rollback"])
def test_pods_meet_the_restricted_security_standard(folder: Path) -> None:
    made = next(one for (kind, _), one in built(folder).items() if kind in {"Deployment", "Job"})
    spec = made["spec"]["template"]["spec"]
    everyone = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000}
    assert spec["securityContext"] == {**everyone, "seccompProfile": {"type": "RuntimeDefault"}}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert all({"persistentVolumeClaim", "emptyDir"} & set(volume) for volume in spec["volumes"])
    for one in spec["containers"]:
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(one["resources"]["requests"]) & set(one["resources"]["limits"])
        assert not any("hostPort" in port for port in one.get("ports", []))


def test_pods_have_no_rights_and_write_only_to_tmp(base: Objects) -> None:
    spec = pod(base)
    assert spec["automountServiceAccountToken"] is spec["enableServiceLinks"] is False
    assert spec["serviceAccountName"] == "torchserve"
    assert base["ServiceAccount", "torchserve"]["automountServiceAccountToken"] is False
    mounts = {mount["mountPath"]: mount for mount in container(base)["volumeMounts"]}
    assert set(mounts) == {"/deploy-model", "/tmp"}
    assert mounts["/deploy-model"]["readOnly"] is True
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["deploy-model"]["persistentVolumeClaim"] == {"claimName": "deploy-model-pvc"}
    assert volumes["tmp"]["emptyDir"]["sizeLimit"]


def test_pods_spread_as_far_as_the_volume_allows(base: Objects) -> None:
    spread = pod(base)["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    # Spreading ignores the volume's node: with DoNotSchedule the second pod would stay pending.
    assert {one["whenUnsatisfiable"] for one in spread} == {"ScheduleAnyway"}
    assert all(one["labelSelector"] == deployment(base)["selector"] for one in spread)
    assert all(one["matchLabelKeys"] == ["pod-template-hash"] for one in spread)


def test_probes_ask_for_readiness_and_liveness_in_time(base: Objects) -> None:
    probes = {name: container(base)[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    for name, probe in probes.items():
        *start, timeout = probe["exec"]["command"]
        live = [] if name == "readiness" else ["--live"]  # a pod waits for the first model
        assert start == ["python3", "-m", "serving", "probe", *live, "--timeout"]
        assert int(timeout) < probe["timeoutSeconds"]
    # Liveness starts after the startup probe, which allows a slow start.
    window = probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"]
    assert window >= 120
    assert window < deployment(base)["progressDeadlineSeconds"]
    dead_after = probes["liveness"]["periodSeconds"] * probes["liveness"]["failureThreshold"]
    assert dead_after > probes["readiness"]["periodSeconds"] * probes["readiness"]["failureThreshold"]


@pytest.mark.parametrize("name", ["startup", "readiness", "liveness"])
def test_each_probe_is_a_command_of_serving(base: Objects, name: str) -> None:
    words = container(base)[f"{name}Probe"]["exec"]["command"][3:]
    command = next(command for command in serving.COMMANDS if command.name == words[0])
    flags = {name for argument in command.arguments for name in argument.names}
    assert command.function == "serving.probe:probe"
    assert {word for word in words if word.startswith("--")} <= flags


def test_the_grace_period_covers_the_pause_and_the_drain(base: Objects) -> None:
    pause = container(base)["lifecycle"]["preStop"]["exec"]["command"]
    assert pause[0] == "sleep"
    assert pod(base)["terminationGracePeriodSeconds"] > int(pause[1]) + DRAIN_SECONDS + END_SECONDS


def test_the_version_comes_from_an_annotation_that_apply_does_not_set(everything: Objects) -> None:
    template = deployment(everything)["template"]
    assert "annotations" not in template["metadata"]
    variables = {one["name"]: one for one in container(everything)["env"]}
    assert variables["MODEL_VERSION"]["valueFrom"] == {"fieldRef": {"fieldPath": f"metadata.annotations['{STAMP}']"}}
    assert STAMP in (FOLDER / "base/deployment.yaml").read_text().split("apiVersion")[0]


def test_only_the_port_for_predictions_is_reachable(base: Objects) -> None:
    service = base["Service", "torchserve"]["spec"]
    assert service["type"] == "ClusterIP"
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(8080, "http")]
    assert container(base)["ports"] == [{"name": "http", "containerPort": 8080}]
    assert "METRICS_ADDRESS" not in {one["name"] for one in container(base)["env"]}
    policy = base["NetworkPolicy", "torchserve"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    assert policy["egress"] == []


def test_every_selector_matches_the_pods(everything: Objects) -> None:
    labels = deployment(everything)["template"]["metadata"]["labels"].items()
    selectors = [
        deployment(everything)["selector"]["matchLabels"],
        everything["Service", "torchserve"]["spec"]["selector"],
        everything["Service", "torchserve-metrics"]["spec"]["selector"],
        everything["PodDisruptionBudget", "torchserve"]["spec"]["selector"]["matchLabels"],
        everything["NetworkPolicy", "torchserve"]["spec"]["podSelector"]["matchLabels"],
        everything["NetworkPolicy", "torchserve-metrics"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and labels >= selector.items() for selector in selectors)


def test_deploy_may_change_this_deployment_and_list_pods(tmp_path: Path) -> None:
    made = changed(tmp_path, pipeline_namespace="pipelines")
    rules = made["Role", "rollout"]["rules"]
    assert rules == [
        {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": ["torchserve"],
            "verbs": ["get", "patch"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
    ]
    binding = made["RoleBinding", "rollout"]
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "rollout"}
    account = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "pipelines"}
    assert binding["subjects"] == [account]


def test_serving_in_its_own_namespace(tmp_path: Path) -> None:
    made = changed(tmp_path, COMPONENTS, namespace="serving", claim="serving-model-pvc", pipeline_namespace="kubeflow")
    assert {one["metadata"]["namespace"] for key, one in made.items() if key not in RIGHTS_THERE} == {"serving"}
    assert made["RoleBinding", "rollout"]["subjects"][0]["namespace"] == "kubeflow"
    volumes = {volume["name"]: volume for volume in pod(made)["volumes"]}
    assert volumes["deploy-model"]["persistentVolumeClaim"]["claimName"] == "serving-model-pvc"
    alert = made["PrometheusRule", "torchserve"]["spec"]["groups"][0]["rules"][0]["expr"]
    assert set(re.findall(r'namespace="(\w+)"', alert)) == {"serving"}


def test_a_prefix_parts_two_projects_of_one_namespace(tmp_path: Path, everything: Objects) -> None:
    """No name is the other's, no selector finds the other's pods, and what refers to an object names its own."""
    ours = changed(tmp_path, COMPONENTS, namePrefix='"digits-"')
    assert set(ours) == {(kind, f"digits-{name}") for kind, name in everything}
    labels = ours["Deployment", "digits-torchserve"]["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "digits-torchserve"
    text = {key: yaml.safe_dump(one, width=10_000) for key, one in ours.items() if key[0] != "ConfigMap"}
    of_selectors = "app.kubernetes.io/name: "
    for key, one in text.items():
        assert set(re.findall(rf"{of_selectors}(\S+)", one)) <= {"digits-torchserve"}, key
        assert not re.findall(r'(?:deployment|job)="torchserve"', one), key
    for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
        assert all(of_selectors in one for (found, _), one in text.items() if found == kind)
    assert ours["Role", "digits-rollout"]["rules"][0]["resourceNames"] == ["digits-torchserve"]
    assert ours["RoleBinding", "digits-rollout"]["roleRef"]["name"] == "digits-rollout"
    spec = ours["Deployment", "digits-torchserve"]["spec"]
    assert spec["selector"]["matchLabels"] == {"app.kubernetes.io/name": "digits-torchserve"}
    assert spec["template"]["spec"]["serviceAccountName"] == "digits-torchserve"
    assert all(
        one["labelSelector"] == spec["selector"] for one in spec["template"]["spec"]["topologySpreadConstraints"]
    )
    assert [one["name"] for one in spec["template"]["spec"]["containers"]] == ["torchserve"]
    assert ours["HorizontalPodAutoscaler", "digits-torchserve"]["spec"]["scaleTargetRef"]["name"] == "digits-torchserve"
    path = ours["Ingress", "digits-torchserve"]["spec"]["rules"][0]["http"]["paths"][0]
    assert path["backend"]["service"]["name"] == "digits-torchserve"
    alerts = {
        rule["alert"]: rule["expr"]
        for rule in ours["PrometheusRule", "digits-torchserve"]["spec"]["groups"][0]["rules"]
    }
    assert len(re.findall(r'(?:job|deployment)="digits-torchserve"', alerts["ServingNoModel"])) == 2
    assert len(re.findall(r'deployment="digits-torchserve"', alerts["ServingReplicaMissing"])) == 2
    for (kind, _), one in ours.items():
        if kind not in CUSTOM:
            kubernetes_validate.validate(one, "1.33", strict=True)


def test_the_jobs_take_the_prefix(tmp_path: Path) -> None:
    for folder, kind, name in ((FOLDER / "rollback", "Job", "rollback"), (ROOT / "infra/gc", "CronJob", "gc")):
        path = Path(shutil.copytree(folder, tmp_path / name)) / "kustomization.yaml"
        text = path.read_text().replace('namePrefix: ""', 'namePrefix: "digits-"')
        path.write_text(text.replace("serving=torchserve", "serving=digits-torchserve"))
        made = built(path.parent)
        assert list(made) == [(kind, f"digits-{name}")]
        assert kind == "CronJob" or "digits-torchserve" in {
            one["value"] for one in made[kind, f"digits-{name}"]["spec"]["template"]["spec"]["containers"][0]["env"]
        }


def test_account_and_claims_are_those_that_the_project_names(tmp_path: Path) -> None:
    """`make pin` writes them where projects share a namespace."""
    made = changed(tmp_path, account="digits-pipeline", claim="digits-deploy-model-pvc")
    assert made["RoleBinding", "rollout"]["subjects"][0]["name"] == "digits-pipeline"
    (claim,) = [
        volume["persistentVolumeClaim"]["claimName"] for volume in pod(made)["volumes"] if "emptyDir" not in volume
    ]
    assert claim == "digits-deploy-model-pvc"
    target = shutil.copytree(FOLDER / "rollback", tmp_path / "rollback")
    path = target / "kustomization.yaml"
    text = path.read_text().replace("account=train-pipeline", "account=digits-pipeline")
    path.write_text(
        text.replace("claim=deploy-model", "claim=digits-deploy-model").replace("claim=train", "claim=digits-train")
    )
    for folder, prefix in ((FOLDER / "rollback", ""), (target, "digits-")):
        spec = built(folder)["Job", "rollback"]["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] == (f"{prefix}pipeline" if prefix else ACCOUNT)
        claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"][:2]}
        assert claims == {"deploy-model": f"{prefix}deploy-model-pvc", "model": f"{prefix}train-model-pvc"}


def test_images_are_this_projects(base: Objects) -> None:
    name = load_project(ROOT / "project.yaml").name
    assert re.fullmatch(rf"\S+/{name}-serving:[0-9a-f]{{16}}", container(base)["image"])


def test_a_file_holds_one_object() -> None:
    for path in itertools.chain(FOLDER.glob("base/*.yaml"), FOLDER.glob("components/*/*.yaml")):
        assert len(list(yaml.safe_load_all(path.read_text()))) == 1, path
