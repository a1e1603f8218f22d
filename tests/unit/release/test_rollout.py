"""The cluster's half of a switch: pods are rolled and asked before it counts, and whatever fails is taken back."""

import os
from pathlib import Path
from typing import Any

import pytest

from contract.events import Progress, parse
from steps.common.errors import StepError
from steps.common.pointer import read_pointer
from steps.deploy.__main__ import main
from steps.deploy.release.cluster import rollout, service
from steps.deploy.release.journal import read_status
from steps.deploy.release.switch import SwitchError
from tests.stand_ins.kubernetes import Cluster, crashed, unschedulable, waiting
from tests.stand_ins.kubernetes_http import Server, Service
from tests.support.switching import answers, log, pointed, serve


def test_all_pods_serve_the_version_before_the_run_ends(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve("v1")
    assert (cluster.stamp, cluster.image) == ("v1", "serving:new")
    assert [pod.version for pod in cluster.pods] == ["v1", "v1"]
    assert log() == [("deployed", "v1")]
    assert read_status().finished
    events = [event for line in capsys.readouterr().out.splitlines() if isinstance(event := parse(line), Progress)]
    assert [event.doing for event in events].count("asking the Service") == 1
    counts = [event.done for event in events if event.doing == "rolling out"]
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
    before = read_pointer()
    cluster.broken["v2"] = state
    with pytest.raises(
        SwitchError,
        match=f"v2 was not rolled out, and v1 is served as before: of 2 pods 0 .* its progressDead.*{message}",
    ):
        serve("v2", image="serving:2")
    assert (cluster.stamp, cluster.image, read_pointer()) == ("v1", "serving:1", before)
    assert [pod.version for pod in cluster.pods if pod.ready] == ["v1", "v1"], "which served all the time"
    assert log() == [("deployed", "v1"), ("deployed", "v2"), ("undone", "v1")]
    assert message.split(":", maxsplit=1)[0].split(maxsplit=1)[0] in read_status().history[-1].reason


def test_the_first_model_that_does_not_come_up_leaves_no_pointer_and_no_stamp(cluster: Cluster) -> None:
    cluster.broken["v1"] = waiting("ImagePullBackOff", "")
    with pytest.raises(SwitchError, match="and nothing is served as before"):
        serve("v1")
    assert (cluster.stamp, cluster.image, read_pointer()) == (None, "serving:old", None)
    assert log() == [("deployed", "v1"), ("undone", None)]


QUOTA = 'pods "torchserve-1" is forbidden: exceeded quota: small, requested: cpu=1, used: cpu=2, limited: cpu=2'


def test_pods_that_a_quota_or_a_policy_refuses_are_explained(cluster: Cluster) -> None:
    serve("v1")
    cluster.refused["v2"] = QUOTA
    with pytest.raises(SwitchError, match=f"became ready within its progressDead.*: FailedCreate: {QUOTA}"):
        serve("v2")
    assert (cluster.stamp, pointed().version) == ("v1", "v1")


def test_the_way_back_to_a_replica_set_that_exists_has_a_deadline_too(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kubernetes then never says ProgressDeadlineExceeded."""
    serve("v1")
    serve("v2")
    cluster.refused["v1"] = QUOTA
    assert main(["rollback"]) == 1
    assert f" within its progressDeadlineSeconds: FailedCreate: {QUOTA}" in capsys.readouterr().err
    assert (cluster.stamp, pointed().version) == ("v2", "v2")


def test_pods_that_never_come_are_not_waited_for_without_end(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "ROLLOUT_SECONDS", 8)
    cluster.hangs.add("v1")
    with pytest.raises(SwitchError, match="of 2 pods 0 became ready in 8 s: their states do not say why"):
        serve("v1")


def test_pods_that_come_are_waited_for_though_a_look_at_them_is_late(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "LATER_SECONDS", -1)  # with the deadline of 1 s, each look without news is late
    assert serve("v1")
    assert {pod.version for pod in cluster.pods} == {"v1"}


def test_a_wrong_golden_prediction_is_taken_back(cluster: Cluster) -> None:
    serve("v1")
    with pytest.raises(SwitchError, match="v1 is served as before: a pod of the new version does not serve it: it"):
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
        with pytest.raises(SwitchError, match="after 0.5 s .* still answers with version v1, not v2"):
            serve("v2")
    assert cluster.stamp == "v1"


def test_a_service_that_nobody_answers_is_no_success(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING_URL", "http://127.0.0.1:9")
    with pytest.raises(SwitchError, match="still does not answer"):
        serve("v1")


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
    with pytest.raises(SwitchError, match="v2 was not rolled out, and v2 is served as before: .*the volume is gone"):
        serve("v2")
    assert (read_pointer(), log()) == before


@pytest.mark.parametrize("replicas", [0, None])
def test_a_deployment_that_is_paused_or_has_no_pods_is_not_waited_for(cluster: Cluster, replicas: int | None) -> None:
    cluster.deployment["spec"].update({"replicas": 0} if replicas == 0 else {"paused": True})
    with pytest.raises(SwitchError, match="is scaled to no pods" if replicas == 0 else "is paused: undo that"):
        serve("v1")


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
    before = read_pointer()
    cluster.broken["v1"] = unschedulable("no node")
    assert main(["rollback"]) == 1
    assert "error: v1 was not rolled out, and v2 is served as before" in capsys.readouterr().err
    assert (read_pointer(), cluster.stamp) == (before, "v2")
