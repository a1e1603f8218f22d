"""The optional components of serving on Kubernetes: autoscaling, ingress, monitoring; and the rollback job."""

import re
import shutil
from pathlib import Path

import kubernetes_validate
import pytest

from contract.loop.collecting import Limits
from contract.paths import ROOT
from steps.deploy.release.cluster import rollout, service
from steps.deploy.release.cluster.deployment import STAMP
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


@pytest.fixture(scope="module")
def base() -> Objects:
    return built(FOLDER)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    return changed(tmp_path_factory.mktemp("everything"), COMPONENTS)


def test_components_only_add_objects(base: Objects, everything: Objects) -> None:
    same = {key: one for key, one in base.items() if key != ("Deployment", "torchserve")}
    assert everything.items() >= same.items()


def test_each_setting_sets_its_fields(tmp_path: Path) -> None:
    made = changed(tmp_path / "a", (), project="other", replicas="3", pipeline_namespace="training")
    assert deployment(made)["replicas"] == 3
    assert made["RoleBinding", "rollout"]["subjects"][0]["namespace"] == "training"
    settings = {"host": "h.example", "tls_secret": "t", "monitoring_namespace": "m", "monitoring_release": "r"}
    made = changed(tmp_path / "b", COMPONENTS, project="other", replicas="3", max_replicas="9", **settings)
    ingress = made["Ingress", "torchserve"]["spec"]
    assert (ingress["rules"][0]["host"], ingress["tls"]) == ("h.example", [{"hosts": ["h.example"], "secretName": "t"}])
    assert ingress["rules"][0]["http"]["paths"][0]["path"] == "/predictions/other"
    scaler = made["HorizontalPodAutoscaler", "torchserve"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    source = made["NetworkPolicy", "torchserve-metrics"]["spec"]["ingress"][0]["from"]
    assert source == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "m"}}}]
    assert {made[kind, "torchserve"]["metadata"]["labels"]["release"] for kind in CUSTOM} == {"r"}


def test_the_autoscaler_sets_the_number_of_pods(everything: Objects) -> None:
    assert "replicas" not in deployment(everything)
    scaler = everything["HorizontalPodAutoscaler", "torchserve"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "torchserve"}
    assert scaler["minReplicas"] == 2


def test_images_are_kept_on_a_claim_of_their_own(base: Objects, everything: Objects, tmp_path: Path) -> None:
    assert "SERVING_COLLECT" not in {one["name"] for one in container(base)["env"]}
    own = changed(tmp_path, ("collect",), collect="share=1,max_mb=3", collect_claim="digits-collect-pvc")
    for made, limits, claim in (
        (everything, Limits().text(), "collect-pvc"),
        (own, "share=1,max_mb=3", "digits-collect-pvc"),
    ):
        [text] = [one["value"] for one in container(made)["env"] if one["name"] == "SERVING_COLLECT"]
        assert text == limits
        assert Limits.parsed(text)
        mounts = {mount["mountPath"]: mount for mount in container(made)["volumeMounts"]}
        assert mounts["/collect"] == {"name": "collect", "mountPath": "/collect"}
        assert mounts["/deploy-model"]["readOnly"] is True
        volumes = {volume["name"]: volume for volume in pod(made)["volumes"]}
        assert volumes["collect"] == {"name": "collect", "persistentVolumeClaim": {"claimName": claim}}
        assert {key: one for key, one in pod(made).items() if key not in {"containers", "volumes"}} == {
            key: one for key, one in pod(base).items() if key not in {"containers", "volumes"}
        }


def test_the_ingress_exposes_one_path(everything: Objects) -> None:
    ingress = everything["Ingress", "torchserve"]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == (f"/predictions/{project_name()}", "Exact")
    assert path["backend"] == {"service": {"name": "torchserve", "port": {"name": "http"}}}
    largest = re.findall(r"(?m)^max_request_size=(\d+)$", (ROOT / "serving/torchserve/config.properties").read_text())
    assert [ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]] == largest


def test_only_prometheus_reaches_the_metrics(everything: Objects) -> None:
    assert {"name": "METRICS_ADDRESS", "value": "0.0.0.0:8082"} in container(everything)["env"]
    assert {"name": "metrics", "containerPort": 8082} in container(everything)["ports"]
    service = everything["Service", "torchserve-metrics"]
    assert [(port["name"], port["targetPort"]) for port in service["spec"]["ports"]] == [("metrics", "metrics")]
    monitor = everything["ServiceMonitor", "torchserve"]["spec"]
    assert service["metadata"]["labels"].items() >= monitor["selector"]["matchLabels"].items()
    predictions = everything["Service", "torchserve"]["metadata"]["labels"]
    assert not predictions.items() >= monitor["selector"]["matchLabels"].items()
    assert [one["port"] for one in monitor["endpoints"]] == ["metrics"]
    (rule,) = everything["NetworkPolicy", "torchserve-metrics"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": 8082, "protocol": "TCP"}]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    dashboard = everything["ConfigMap", "torchserve-dashboard"]
    assert dashboard["data"] == {"torchserve.json": (FOLDER / "components/monitoring/dashboard.json").read_text()}


def test_the_rollback_job_runs_in_the_pipelines_namespace(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / "rollback", tmp_path / "rollback")
    path = tmp_path / "rollback/kustomization.yaml"
    text = path.read_text().replace("serving-namespace=kubeflow", "serving-namespace=serving")
    path.write_text(text.replace("version= ", "version=0123abcd "))
    for folder, version, namespace in ((FOLDER / "rollback", "", "kubeflow"), (path.parent, "0123abcd", "serving")):
        job = built(folder)["Job", "rollback"]
        kubernetes_validate.validate(job, "1.33", strict=True)
        assert job["metadata"]["namespace"] == "kubeflow"
        assert job["spec"]["template"]["metadata"]["labels"] == {
            "app.kubernetes.io/part-of": project_name(),
            "sidecar.istio.io/inject": "false",
        }
        spec = job["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] == ACCOUNT
        (only,) = spec["containers"]
        assert only["command"] == ["python3", "-m", "steps.deploy", "rollback", f"--version={version}"]
        assert {one["name"]: one["value"] for one in only["env"]} == {
            "SERVING_NAMESPACE": namespace,
            "SERVING_DEPLOYMENT": "torchserve",
            "SERVING_URL": "http://$(SERVING_DEPLOYMENT).$(SERVING_NAMESPACE).svc:8080",
        }
        mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in only["volumeMounts"]}
        assert mounts == {"/deploy-model": False, "/model": True, "/tmp": False}


def test_the_rollback_job_has_enough_time_and_servings_namespace(base: Objects) -> None:
    job = built(FOLDER / "rollback")["Job", "rollback"]
    assert job["spec"]["activeDeadlineSeconds"] > 2 * rollout.ROLLOUT_SECONDS + service.ASK_SECONDS
    environment = {one["name"]: one["value"] for one in job["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert environment["SERVING_NAMESPACE"] == base["Deployment", "torchserve"]["metadata"]["namespace"]


def test_what_the_serving_page_names_exists() -> None:
    text = (ROOT / "docs/serving.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    folders = set(re.findall(r" -k (infra/\S+?)[`\s]", text))
    assert f'"{STAMP}": null' in text
    assert folders == {"infra/pv-pvc", "infra/torchserve", "infra/torchserve/rollback"}
    assert set(re.findall(r"`components/(\w+)`", text)) == set(COMPONENTS)
