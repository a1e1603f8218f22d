"""The way back of a rollout that failed: waited for, gone on with later, and not begun again by the same run."""

import re

import pytest

from contract.journal import Template
from steps.common.errors import StepError
from steps.common.pointer import read_pointer
from steps.deploy.__main__ import main
from steps.deploy.release.cluster import rollout
from steps.deploy.release.journal import read_status
from steps.deploy.release.switch import SwitchError
from tests.stand_ins.kubernetes import ALL, Cluster, waiting
from tests.support.switching import log, pointed, serve


def stuck_at(cluster: Cluster, version: str) -> str:
    """Roll to a version whose pods do not come, by an account that loses its right to patch; gives the message."""

    def no_more() -> None:
        cluster.rules = [{**rule, "verbs": ["get", "list"]} for rule in ALL]

    cluster.broken[version], cluster.on_patch = waiting("ImagePullBackOff", "no such image"), no_more
    with pytest.raises(SwitchError) as told:
        serve(version)
    cluster.rules, cluster.on_patch = ALL, lambda: None
    assert cluster.stamp == version
    return str(told.value)


def test_a_deployment_that_cannot_be_set_back_is_set_back_by_the_next(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("v1")
    message = stuck_at(cluster, "v2")
    assert re.match("v2 was not rolled out: of 2 pods 0 .*no such image; nor was the Deployment set back", message)
    assert message.endswith("and so does make rollback VERSION=v1")
    assert "as before" not in message
    status = read_status()
    assert (pointed().version, status.confirmed, status.template) == ("v1", pointed(), Template("v1", "serving:new"))
    assert not status.finished
    assert log()[-1] == ("undone", "v1")
    assert main(["rollback", "--version", "v1"]) == 0
    assert capsys.readouterr().out.endswith("v1 is served already; its pods were brought to it\n")
    assert cluster.stamp == "v1"
    assert read_status().finished


def test_what_comes_after_it_goes_back_to_what_was_confirmed_last(cluster: Cluster) -> None:
    serve("v1", image="serving:1")
    before = read_pointer()
    stuck_at(cluster, "v2")
    cluster.broken["v3"] = waiting("ImagePullBackOff", "")
    with pytest.raises(SwitchError, match="v3 was not rolled out, and v1 is served as before"):
        serve("v3")
    assert (cluster.stamp, cluster.image, read_pointer()) == ("v1", "serving:1", before)


def test_the_first_model_that_cannot_be_set_back_stays_in_the_pointer_until_it_can(cluster: Cluster) -> None:
    message = stuck_at(cluster, "v1")
    assert message.endswith("and so does make rollback VERSION=v1")
    assert (pointed().version, read_status().confirmed) == ("v1", None)
    with pytest.raises(SwitchError, match="v1 was not rolled out, and nothing is served as before"):
        serve("v1")
    assert (cluster.stamp, cluster.image, read_pointer()) == (None, "serving:old", None)
    assert log() == [("deployed", "v1"), ("undone", None)]


def test_another_image_that_does_not_come_up_leaves_the_pointer_as_it_was(cluster: Cluster) -> None:
    serve("v1", image="serving:1")
    before = read_pointer()
    cluster.broken["v1"] = waiting("ImagePullBackOff", "")
    cluster.on_patch = lambda: cluster.broken.clear() if cluster.image == "serving:1" else None
    with pytest.raises(SwitchError, match="v1 was not rolled out, and v1 is served as before"):
        serve("v1", image="serving:2")
    assert (cluster.image, read_pointer()) == ("serving:1", before)


def test_as_before_is_said_when_every_pod_is_back(cluster: Cluster) -> None:
    serve("v1")
    with pytest.raises(SwitchError, match="v1 is served as before"):
        serve("v2", wrong=True)
    assert [(pod.version, pod.ready) for pod in cluster.pods] == [("v1", True)] * 2


def test_a_way_back_that_fails_is_said_after_what_failed_first(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("v1")
    cluster.broken["v2"] = waiting("ImagePullBackOff", "no such image")

    def back() -> None:
        if cluster.stamp == "v1":
            cluster.hangs.add("v1")
            cluster.pods[0].ready = False
            monkeypatch.setattr(rollout, "ROLLOUT_SECONDS", 8)

    cluster.on_patch = back
    first, second = "of 2 pods 0 .*no such image", "of 2 pods 1 became ready in 8 s"
    with pytest.raises(SwitchError, match=f"^v2 was .* its pods are going back to v1: {first}; .* back {second}"):
        serve("v2")
    assert (cluster.stamp, log()[-1]) == ("v1", ("undone", "v1"))
    assert read_status().finished


def test_kubeflow_trying_the_step_again_does_not_roll_out_again_and_a_new_run_does(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve("v1")
    cluster.broken["v2"] = waiting("ImagePullBackOff", "no such image")
    monkeypatch.setenv("RUN_ID", "one")
    with pytest.raises(SwitchError):
        serve("v2")
    before = (read_pointer(), read_status())
    cluster.asked.clear()
    with pytest.raises(StepError, match="v2 is rolled out once in a run, and a new run tries again: .*no such image"):
        serve("v2")
    assert (cluster.asked, read_pointer(), read_status()) == ([], *before)
    cluster.broken.clear()
    monkeypatch.setenv("RUN_ID", "another")
    assert serve("v2")


def test_kubeflow_trying_the_step_again_sets_back_what_could_not_be(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_ID", "one")
    serve("v1")
    stuck_at(cluster, "v2")
    with pytest.raises(StepError, match="v2 is rolled out once in a run"):
        serve("v2")
    assert cluster.stamp == "v1"
    assert read_status().finished
