"""A rollout whose pods shadow the version first: deploy waits for their verdict."""

import json
import os
from pathlib import Path

import pytest

from steps.deploy.parameters import Shadow
from steps.deploy.release.archives import retire_archives
from steps.deploy.release.cluster import service
from steps.deploy.release.journal import opened, read_status
from steps.deploy.release.rollback import rollback
from steps.deploy.release.switch import SwitchError
from tests.stand_ins.kubernetes import Cluster
from tests.stand_ins.kubernetes_http import Server, Service
from tests.support.switching import answers, log, pointed, serve

LIMITS = Shadow(seconds=5).model_dump()
SHADOWED = {"version": "v2", "state": "shadowed", "reason": ""}


@pytest.fixture
def pods(cluster: Cluster) -> Service:
    """The Service of pods that serve v1."""
    serve("v1")
    return Service(cluster, {version: answers(version) for version in ("v1", "v2")})


def recorded(volumes: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((volumes / "deploy-model/versions/v2.json").read_text())
    return content


def test_deploy_waits_for_the_pods_and_notes_the_figures(cluster: Cluster, pods: Service, volumes: Path) -> None:
    passed = {"version": "v2", "state": "passed", "reason": "shadowed for 5 s: the figures"}
    pods.shadows = [SHADOWED] * 5 + [passed, SHADOWED, passed]
    with Server(pods) as before:
        os.environ["SERVING_URL"] = before.url
        assert serve("v2", shadow=LIMITS)
    assert pods.shadows == []
    assert (cluster.stamp, pointed().version) == ("v2", "v2")
    assert pointed().shadow is None, "a pod that starts later answers with it at once"
    assert "shadow" not in recorded(volumes)
    last = (volumes / "deploy-model/audit.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["reason"] == "shadowed for 5 s: the figures"
    assert read_status().finished
    with opened() as journal:
        assert journal.status.version == "v2"
    assert log() == [("deployed", "v1"), ("deployed", "v2")]


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("refused", "equal labels 12.00%", "a pod refuses it: equal labels 12.00%"),
        ("failed", "no memory", "a pod cannot load it: no memory"),
    ],
)
def test_a_version_that_a_pod_refuses_is_taken_back_with_the_figures(
    cluster: Cluster, pods: Service, state: str, reason: str, words: str
) -> None:
    pods.shadows = [SHADOWED, {"version": "v2", "state": state, "reason": reason}]
    with Server(pods) as before:
        os.environ["SERVING_URL"] = before.url
        with pytest.raises(SwitchError, match=f"v1 is served as before: {words}"):
            serve("v2", shadow=LIMITS)
    assert (cluster.stamp, pointed().version) == ("v1", "v1")
    assert log()[-1] == ("undone", "v1")
    assert reason in read_status().history[-1].reason


def test_pods_that_shadow_without_end_are_not_waited_for(
    cluster: Cluster, pods: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SHADOW_MARGIN_SECONDS", -4.5)
    pods.shadows = [SHADOWED] * 1_000_000
    pods.late = ["v1"] * 100_000
    with Server(pods) as before:
        os.environ["SERVING_URL"] = before.url
        with pytest.raises(SwitchError, match="still answers with version v1, not v2"):
            serve("v2", shadow=LIMITS)
    assert cluster.stamp == "v1"


def test_a_rollback_is_not_shadowed(deploy_volume: Path) -> None:
    serve("v1")
    serve("v2", shadow=LIMITS)
    assert pointed().shadow == {**LIMITS, "before": "v1"}
    serve("v3", shadow=LIMITS)
    assert pointed().shadow == {**LIMITS, "before": "v1"}, "v2 does not answer yet"
    store = deploy_volume / "model-store"
    retire_archives(store / "digits_v3.mar", 1, "digits_v1.mar")
    assert sorted(path.stem for path in store.glob("*.mar")) == ["digits_v1", "digits_v3"], "v1 answers until then"
    rollback("v2")
    assert (pointed().version, pointed().shadow) == ("v2", None)
