"""What the Kubernetes API may answer to a rollout: trouble, a refusal, or nothing; and how strict its stand-in is."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import urllib3

from contract.paths import ROOT
from steps.common.cluster import api as kubernetes_api
from steps.common.errors import StepError
from steps.common.pointer import read_pointer
from steps.deploy.__main__ import main
from steps.deploy.release.switch import SwitchError
from tests.stand_ins.kubernetes import ALL, Cluster, waiting
from tests.stand_ins.kubernetes_http import Server
from tests.support.switching import log, serve


def test_the_role_of_infra_grants_what_was_used_and_nothing_else(cluster: Cluster) -> None:
    serve("v1")
    cluster.broken["v2"] = waiting("ImagePullBackOff", "no such image")
    with pytest.raises(SwitchError):
        serve("v2")
    granted = {
        (group, resource, name, verb)
        for rule in cluster.rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }
    assert granted == cluster.used


def test_a_missing_deployment_is_found_before_anything_changes(cluster: Cluster, volumes: Path) -> None:
    serve("v1")
    before = (read_pointer(), log())
    cluster.exists = False
    with pytest.raises(
        StepError, match="has no Deployment torchserve: kubectl apply -k infra/torchserve, or kubeflow.ser"
    ):
        serve("v2")
    assert (read_pointer(), log()) == before


@pytest.mark.parametrize("verb", ["get", "patch"])
def test_a_missing_role_is_named(cluster: Cluster, verb: str) -> None:
    serve("v1")
    before = read_pointer()
    cluster.rules = [{**rule, "verbs": [each for each in rule["verbs"] if each != verb]} for rule in ALL]
    with pytest.raises(
        StepError, match=f"may not {verb} deployments in namespace kubeflow, which the Role rollout all"
    ) as told:
        serve("v2")
    assert (read_pointer(), cluster.stamp) == (before, "v1")
    assert "set back" not in str(told.value), "for it was never changed"


def test_pods_that_may_not_be_listed_do_not_hide_what_failed(cluster: Cluster) -> None:
    cluster.rules = ALL[:1]
    cluster.broken["v1"] = waiting("ImagePullBackOff", "")
    with pytest.raises(SwitchError, match="0 became ready within its progressDeadlineSeconds: .*may not list pods"):
        serve("v1")


def test_another_namespace_is_not_allowed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_NAMESPACE", "elsewhere")
    with pytest.raises(StepError, match="may not get deployments in namespace elsewhere"):
        serve("v1")
    assert read_pointer() is None


def test_a_token_that_is_not_known_is_said(cluster: Cluster) -> None:
    cluster.token = "another"
    with pytest.raises(StepError, match="does not accept this token"):
        serve("v1")


@pytest.mark.parametrize("trouble", [[503, 503, 500], [409, 409], [0, 0, 0], [429, 504]])
def test_an_api_that_stumbles_is_asked_again(cluster: Cluster, trouble: list[int]) -> None:
    for number, version in enumerate(("v1", "v2", "v3")):
        cluster.trouble_to = {verb: list(trouble) for verb in ("get", "patch", "list")}
        assert serve(version)
        assert len(log()) == number + 1
        assert cluster.trouble_to == {"get": [], "patch": [], "list": []}


def test_an_api_that_stays_away_says_so_and_changes_nothing(cluster: Cluster) -> None:
    cluster.trouble = [503] * 50
    with pytest.raises(
        StepError, match="the Kubernetes API answers 503 to get deployments in namespace kubeflow: trouble"
    ):
        serve("v1")
    assert read_pointer() is None
    cluster.trouble = [0] * 50
    with pytest.raises(StepError, match="the Kubernetes API does not answer .*: run again once it does"):
        serve("v1")


def test_an_api_that_is_away_for_a_while_does_not_end_a_rollout(cluster: Cluster) -> None:
    def away() -> None:
        cluster.trouble = [503] * 30
        cluster.on_patch = lambda: None

    cluster.on_patch = away
    assert serve("v1")
    assert cluster.trouble == []


def test_in_a_pod_its_account_and_its_certificate_are_used(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes.config import incluster_config

    (tmp_path / "token").write_text("right")
    certificate = self_signed(tmp_path / "ca.pem")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with Server(cluster, certificate) as api:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        assert serve("v1")
        other = self_signed(tmp_path / "other.pem")
        monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(other))
        monkeypatch.setattr(kubernetes_api, "_RETRIES", 0)
        with pytest.raises(StepError, match="the Kubernetes API does not answer .*CERTIFICATE_VERIFY_FAILED"):
            serve("v2")


def test_without_any_cluster_it_says_so(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(
        StepError, match="SERVING_NAMESPACE is kubeflow, but this is no pod, and kubectl's settings name"
    ):
        serve("v1")


def test_a_service_without_an_address_is_said_with_an_example(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("v1")
    monkeypatch.delenv("SERVING_URL")
    assert main(["rollback", "--version", "v1"]) == 2
    assert "error: SERVING_NAMESPACE is kubeflow, and SERVING_URL is not set: " in (said := capsys.readouterr().err)
    assert said.endswith("http://torchserve.kubeflow.svc:8080\n")


def test_a_deployment_of_another_name_is_rolled(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside another project in the namespace: only the name differs, not that of the container."""
    cluster.deployment["metadata"]["name"] = "digits-torchserve"
    cluster.rules = [
        {**rule, **({"resourceNames": ["digits-torchserve"]} if "resourceNames" in rule else {})} for rule in ALL
    ]
    monkeypatch.setenv("SERVING_DEPLOYMENT", "digits-torchserve")
    serve("v1")
    serve("v2")
    assert main(["rollback", "--version", "v1"]) == 0
    assert {name for group, _, name, _ in cluster.used if group == "apps"} == {"digits-torchserve"}
    cluster.exists = False
    with pytest.raises(StepError, match="has no Deployment digits-torchserve: kubectl apply -k infra/torchserve"):
        serve("v3")
    monkeypatch.delenv("SERVING_URL")
    assert main(["rollback", "--version", "v1"]) == 2
    assert capsys.readouterr().err.endswith("http://digits-torchserve.kubeflow.svc:8080\n")


def test_where_serving_is_left_alone_the_client_is_not_even_imported(volumes: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "SERVING_NAMESPACE"}
    code = (
        "import sys\nfrom steps.deploy.__main__ import main\nmain(['rollback', '--version', 'v1'])\nprint(*sys.modules)"
    )
    (volumes / "deploy-model").mkdir(parents=True)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert not {"kubernetes", "urllib3", "serving"} & {name.split(".")[0] for name in done.stdout.split()}


def test_the_stand_in_is_as_strict_as_the_api(cluster: Cluster) -> None:
    """What would hide a mistake of the client: each of these is refused."""
    api = Server(cluster)
    path = "/apis/apps/v1/namespaces/kubeflow/deployments/torchserve"
    merge = {"Content-Type": "application/merge-patch+json"}
    image = {"spec": {"template": {"spec": {"containers": [{"name": "torchserve", "image": "i"}]}}}}

    def status(method: str, where: str, body: Any = None, **headers: str) -> int:
        login = {"Authorization": "Bearer right", **headers}
        data = json.dumps(body) if body is not None else None
        return urllib3.request(method, f"{api.url}{where}", body=data, headers=login, retries=False).status

    with api:
        assert status("GET", path) == 200
        assert status("GET", path, Authorization="Bearer wrong") == 401
        assert status("GET", path.replace("torchserve", "other")) == 403
        assert status("DELETE", path) == 403
        assert status("GET", path.replace("v1", "v2")) == 404
        assert status("GET", f"{path}?colour=red") == 400
        assert status("PATCH", path, {}, **{"Content-Type": "application/json"}) == 415
        assert status("PATCH", path, image, **merge) == 422, "which would take its ports away"
        assert status("PATCH", path, {"spec": {"colour": "red"}}, **merge) == 400
        assert status("PATCH", path, {"metadata": {"resourceVersion": "0"}}, **merge) == 409
        assert status("PATCH", path, image, **{"Content-Type": "application/strategic-merge-patch+json"}) == 200


def self_signed(path: Path) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + signed.public_bytes(pem))
    return path
