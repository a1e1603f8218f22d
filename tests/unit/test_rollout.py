"""The cluster's half of a switch: pods are rolled and asked before it counts, and whatever fails is taken back."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from kubernetes_stand_in import ALL, Cluster, crashed, unschedulable, waiting
from kubernetes_stand_in_http import Server, Service

from steps.common.digest import ROOT
from steps.common.errors import StepError
from steps.common.pointer import read_pointer
from steps.deploy import audit, rollout, service
from steps.deploy.__main__ import main
from steps.deploy.switch import RolledBackError, alone, switch

DIGITS = [f"image {number}".encode() for number in range(4)]
ROLE = ROOT / "infra/torchserve/base/rollout-role.yaml"


def answers(version: str) -> dict[bytes, dict[str, Any]]:
    """What a version answers; each has distances of its own."""
    own = int(hashlib.sha256(version.encode()).hexdigest(), 16) % 1000 / 10_000
    return {image: {"label": str(number), "distance": own + number / 100} for number, image in enumerate(DIGITS)}


@pytest.fixture
def cluster(volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that kubectl's settings name, with the Role of infra/torchserve, and patience for a test."""
    (volumes / "deploy-model/model-store").mkdir(parents=True)
    one = Cluster(rules=yaml.safe_load(ROLE.read_text())["rules"])
    known = {version: answers(version) for version in ("v1", "v2", "v3")}
    with Server(one) as api, Server(Service(one, {None: {}, **known})) as before:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", api.url)))
        monkeypatch.setenv("SERVING_NAMESPACE", "kubeflow")
        monkeypatch.setenv("SERVING_URL", before.url)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(rollout, "POLL_SECONDS", 0.002)
        monkeypatch.setattr(rollout, "ROLLOUT_SECONDS", 10)  # where it waits for what never comes, a test fails
        monkeypatch.setattr(rollout, "BACKOFF_SECONDS", 0.001)
        monkeypatch.setattr(service, "PAUSE_SECONDS", 0.002)
        monkeypatch.setattr(service, "ASK_SECONDS", 0.5)
        one.service = before  # type: ignore[attr-defined]
        yield one


def kubeconfig(path: Path, url: str, token: str = "right") -> Path:
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def serve(version: str, image: str | None = "serving:new", wrong: bool = False) -> bool:
    """Switch to this version as deploy would; whether anything changed."""
    mar = Path(os.environ["VOLUMES"], f"deploy-model/model-store/digits_{version}.mar")
    with alone() as current:
        if current and current["version"] == version and current.get("image") == image:
            return switch(current, current, audit.DEPLOYED, "it is good")
        golden = [
            {"image": base64.b64encode(each).decode(), "expected": answer["label"], **answer}
            for each, answer in answers(version).items()
        ]
        if wrong:
            golden[-1]["label"] = "9"
        with zipfile.ZipFile(mar, "w") as archive:
            archive.writestr("model.json", json.dumps({"name": "digits", "version": version}))
            archive.writestr("golden.json", json.dumps(golden))
        sha256 = hashlib.sha256(mar.read_bytes()).hexdigest()
        wanted = {"name": "digits", "version": version, "mar": mar.name, "sha256": sha256, "network": version}
        wanted |= {"index": "i", "deployed_at": audit.now(), **({"image": image} if image else {})}
        return switch(current, wanted, audit.DEPLOYED, "it is good")


def pointer() -> dict[str, Any] | None:
    found = read_pointer()
    return {key: value for key, value in found.items() if key != "switched"} if found else None


def log() -> list[tuple[str, str | None]]:
    return [(line["event"], line["version"]) for line in audit.read()]


def test_all_pods_serve_the_version_before_the_run_ends(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve("v1")
    assert (cluster.stamp, cluster.image) == ("v1", "serving:new")
    assert [pod.version for pod in cluster.pods] == ["v1", "v1"]
    assert log() == [("deployed", "v1")]
    said = pointer()
    assert said is not None
    assert "rollout" not in said
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["doing"] for event in events].count("asking the Service") == 1
    counts = [event["done"] for event in events if event["doing"] == "rolling out"]
    assert counts == sorted(counts)
    assert cluster.used == {
        ("apps", "deployments", "torchserve", "get"),
        ("apps", "deployments", "torchserve", "patch"),
        ("", "pods", "", "list"),
    }


def test_every_pod_is_asked_and_by_hardly_any_chance_none_left_out() -> None:
    cluster = Cluster(replicas=5)
    for pod in cluster.pods:
        pod.template["metadata"]["annotations"] = {"continuous-training/model-version": "v1"}
    before = Service(cluster, {"v1": answers("v1")})
    with Server(before) as one:
        service.ask(f"{one.url}/predictions/digits", golden_of("v1"), 5)
    assert len(before.by) >= 49, "5 pods, each left out with (4/5)^49, all five with a chance below 1 in 10,000"


def golden_of(version: str) -> Any:
    from serving.golden import Golden, Item

    items = [Item(image, a["label"], a["label"], a["distance"]) for image, a in answers(version).items()]
    return Golden(version, tuple(items))


def test_the_role_of_infra_grants_what_was_used_and_nothing_else(cluster: Cluster) -> None:
    serve("v1")
    cluster.broken["v2"] = waiting("ImagePullBackOff", "no such image")
    with pytest.raises(RolledBackError):
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


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (waiting("ImagePullBackOff", "Back-off pulling image"), "ImagePullBackOff: Back-off pulling image"),
        (crashed("error: the pointer names"), r"CrashLoopBackOff: .*ended with 1 \(Error\), error: the pointer names"),
        (unschedulable("0/1 nodes are available"), "Unschedulable: 0/1 nodes are available"),
        ({"container": {"ready": False, "state": {"running": {}}}}, "is not ready: its log says why"),
    ],
)
def test_a_rollout_that_gets_stuck_is_taken_back_and_says_what_the_pods_say(
    cluster: Cluster, state: dict[str, Any], message: str
) -> None:
    serve("v1", image="serving:1")
    before = pointer()
    cluster.broken["v2"] = state
    with pytest.raises(
        RolledBackError,
        match=f"v2 was not rolled out, and v1 is served as before: of 2 pods 0 .* its progressDead.*{message}",
    ):
        serve("v2", image="serving:2")
    assert (cluster.stamp, cluster.image, pointer()) == ("v1", "serving:1", before)
    assert [pod.version for pod in cluster.pods if pod.ready] == ["v1", "v1"], "which served all the time"
    assert log() == [("deployed", "v1"), ("deployed", "v2"), ("undone", "v1")]
    assert message.split(":", maxsplit=1)[0].split(maxsplit=1)[0] in audit.read()[-1]["reason"]


def test_the_first_model_that_does_not_come_up_leaves_no_pointer_and_no_stamp(cluster: Cluster) -> None:
    cluster.broken["v1"] = waiting("ImagePullBackOff", "")
    with pytest.raises(RolledBackError, match="and nothing is served as before"):
        serve("v1")
    assert (cluster.stamp, cluster.image, read_pointer()) == (None, "serving:old", None)
    assert log() == [("deployed", "v1"), ("undone", None)]


def test_pods_that_never_come_are_not_waited_for_without_end(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "ROLLOUT_SECONDS", 0.2)
    cluster.hangs.add("v1")
    with pytest.raises(RolledBackError, match="of 2 pods 0 became ready in 0.2 s: their states do not say why"):
        serve("v1")


def test_a_wrong_golden_prediction_is_taken_back(cluster: Cluster) -> None:
    serve("v1")
    with pytest.raises(RolledBackError, match="v1 is served as before: a pod of the new version does not serve it: it"):
        serve("v2", wrong=True)
    assert cluster.stamp == "v1"
    assert log()[-1] == ("undone", "v1")


def test_answers_of_the_version_before_are_waited_for(cluster: Cluster, volumes: Path) -> None:
    serve("v1")
    late = Service(cluster, {version: answers(version) for version in ("v1", "v2")})
    late.late = ["v1"] * 7
    with Server(late) as before:
        os.environ["SERVING_URL"] = before.url
        assert serve("v2")
    assert late.by[:7] == ["v1"] * 7
    assert set(late.by[-10:]) == {"v2"}
    assert log() == [("deployed", "v1"), ("deployed", "v2")]


def test_a_version_before_that_goes_on_to_answer_is_no_success(cluster: Cluster) -> None:
    serve("v1")
    late = Service(cluster, {version: answers(version) for version in ("v1", "v2")})
    late.late = ["v1"] * 100_000
    with Server(late) as before:
        os.environ["SERVING_URL"] = before.url
        with pytest.raises(RolledBackError, match="after 0.5 s .* still answers with version v1, not v2"):
            serve("v2")
    assert cluster.stamp == "v1"


def test_a_service_that_nobody_answers_is_no_success(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_URL", "http://127.0.0.1:9")
    with pytest.raises(RolledBackError, match="still does not answer"):
        serve("v1")


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
    before = pointer()
    cluster.rules = [{**rule, "verbs": [each for each in rule["verbs"] if each != verb]} for rule in ALL]
    with pytest.raises(
        StepError, match=f"may not {verb} deployments in namespace kubeflow, which the Role rollout all"
    ):
        serve("v2")
    assert (pointer(), cluster.stamp) == (before, "v1")


def test_pods_that_may_not_be_listed_do_not_hide_what_failed(cluster: Cluster) -> None:
    cluster.rules = ALL[:1]
    cluster.broken["v1"] = waiting("ImagePullBackOff", "")
    with pytest.raises(RolledBackError, match="0 became ready within its progressDeadlineSeconds: .*may not list pods"):
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


def test_a_deployment_that_cannot_be_set_back_is_said(cluster: Cluster) -> None:
    serve("v1")
    cluster.broken["v2"] = waiting("ImagePullBackOff", "")
    stamped = 0

    def no_more() -> None:
        nonlocal stamped
        stamped += 1
        cluster.rules = [{**rule, "verbs": ["get", "list"]} for rule in ALL]

    cluster.on_patch = no_more
    with pytest.raises(
        RolledBackError, match="nor was the Deployment set back .* kubectl rollout undo deployment/torch"
    ):
        serve("v2")
    said = pointer()
    assert said is not None
    assert (said["version"], cluster.stamp, stamped) == ("v1", "v2", 1)
    cluster.rules = ALL
    assert main(["rollback", "--version", "v1"]) == 0
    assert cluster.stamp == "v1"


def test_what_runs_already_is_asked_and_left_alone(cluster: Cluster) -> None:
    serve("v1")
    cluster.asked.clear()
    assert not serve("v1")
    assert ("patch", "deployments") not in cluster.asked
    assert log() == [("deployed", "v1")]


def test_a_deployment_stamped_otherwise_is_brought_to_the_pointer(cluster: Cluster) -> None:
    serve("v1")
    serve("v2")
    cluster.deployment["spec"]["template"]["metadata"]["annotations"].clear()
    cluster.deployment["metadata"]["generation"] += 1
    assert serve("v2"), "for the pods changed"
    assert cluster.stamp == "v2"
    assert log() == [("deployed", "v1"), ("deployed", "v2")]


def test_what_was_confirmed_once_stays_in_the_pointer_though_its_pods_fail_later(cluster: Cluster) -> None:
    serve("v1")
    serve("v2")
    before = (read_pointer(), log())
    cluster.exists = False
    with pytest.raises(StepError, match="has no Deployment"):
        serve("v2")
    cluster.exists = True
    cluster.pods[0].ready = False
    cluster.broken["v2"] = crashed("the volume is gone")
    with pytest.raises(
        RolledBackError, match="v2 was not rolled out, and v2 is served as before: .*the volume is gone"
    ):
        serve("v2")
    assert (read_pointer(), log()) == before


@pytest.mark.parametrize("replicas", [0, None])
def test_a_deployment_that_is_paused_or_has_no_pods_is_not_waited_for(cluster: Cluster, replicas: int | None) -> None:
    cluster.deployment["spec"].update({"replicas": 0} if replicas == 0 else {"paused": True})
    with pytest.raises(RolledBackError, match="is scaled to no pods" if replicas == 0 else "is paused: undo that"):
        serve("v1")


KILLED = """
import os, signal, sys
from steps.deploy import __main__, rollout
rollout.POLL_SECONDS = 0.02
moment, words = sys.argv[1], sys.argv[2:]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if moment == "before the stamp":
    rollout.Rollout.set_template = die
elif moment == "while pods come":
    rollout.Rollout._reasons = die
elif moment == "before the questions":
    rollout.ask = die
sys.exit(__main__.main(words))
"""


@pytest.mark.parametrize("moment", ["before the stamp", "while pods come", "before the questions", "never"])
@pytest.mark.parametrize("then", ["well", "broken"])
def test_a_rollback_killed_at_any_moment_is_finished_or_taken_back_by_the_next(
    cluster: Cluster, moment: str, then: str
) -> None:
    serve("v1")
    serve("v2")
    command = [sys.executable, "-c", KILLED, moment, "rollback"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if moment == "never" else -9), done.stderr
    if moment == "never":
        assert done.stdout.splitlines()[-1] == "ROLLED BACK to v1 (was v2)"
    said = pointer()
    assert said is not None
    assert said["version"] == "v1"
    if then == "broken" and moment != "never":
        cluster.broken["v1"] = waiting("ImagePullBackOff", "")
        for pod in cluster.pods:
            pod.ready = pod.ready and pod.version == "v2"
        assert main(["rollback", "--version", "v1"]) == 1
        assert (cluster.stamp, log()[-1]) == ("v2", ("undone", "v2"))
        said = pointer()
        assert said is not None
        assert said["version"] == "v2"
        return
    assert main(["rollback", "--version", "v1"]) == 0
    assert (cluster.stamp, log()[-1]) == ("v1", ("rolled-back", "v1"))
    assert len(log()) == 3
    said = pointer()
    assert said is not None
    assert "rollout" not in said


def test_after_a_kill_what_fails_next_goes_back_to_what_was_confirmed_last(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("v1")
    with monkeypatch.context() as patch:
        patch.setattr(rollout.Rollout, "roll", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            serve("v2")
    cluster.broken["v3"] = waiting("ImagePullBackOff", "")
    with pytest.raises(RolledBackError, match="v3 was not rolled out, and v1 is served as before"):
        serve("v3")
    assert cluster.stamp == "v1"
    assert log() == [("deployed", "v1"), ("deployed", "v2"), ("deployed", "v3"), ("undone", "v1")]


def test_a_rollback_rolls_the_pods_to_the_image_that_the_version_was_proven_in(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("v1", image="serving:1")
    serve("v2", image="serving:2")
    assert main(["rollback"]) == 0
    assert (cluster.stamp, cluster.image) == ("v1", "serving:1")
    assert capsys.readouterr().out.splitlines()[-1] == "ROLLED BACK to v1 (was v2)"


def test_a_rollback_that_cannot_be_rolled_out_is_taken_back_with_its_note(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("v1")
    serve("v2")
    before = pointer()
    cluster.broken["v1"] = unschedulable("no node")
    assert main(["rollback"]) == 1
    assert "error: v1 was not rolled out, and v2 is served as before" in capsys.readouterr().err
    assert (pointer(), cluster.stamp) == (before, "v2")


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
        monkeypatch.setattr(rollout, "_RETRIES", 0)
        with pytest.raises(StepError, match="the Kubernetes API does not answer .*CERTIFICATE_VERIFY_FAILED"):
            serve("v2")


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


def test_without_any_cluster_it_says_so(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(
        StepError, match="SERVING_NAMESPACE is kubeflow, but this is no pod, and kubectl's settings name"
    ):
        serve("v1")


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
