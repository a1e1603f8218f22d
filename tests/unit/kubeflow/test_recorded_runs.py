"""Runs as a real server told of them: recorded from Kubeflow Pipelines 2.17.0 (single-user, Argo 4.0.5), and shortened.

In the recordings whose names end with `events-prefixed`, the word `event` stands before each event; in the others the
events were JSON alone, and the server gave their lines back blank.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.kubeflow import watch
from pipeline.kubeflow.client import Kubeflow
from tests.stand_ins.kfp import Kfp
from tests.stand_ins.kfp_http import Server

RECORDED = Path(__file__).parent / "recorded"
Opened = Callable[[str], tuple[Kubeflow, Any]]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A server that has one recorded run, and the run as the client gets it."""
    kfp = Kfp()
    with Server(kfp) as server:

        def open_run(name: str) -> tuple[Kubeflow, Any]:
            recorded = json.loads((RECORDED / f"{name}.json").read_text())
            kfp.runs, kfp.logs = [{**recorded["run"], "script": [{}]}], recorded["logs"]
            connected = Kubeflow(f"http://{server.address}", "right", None)
            return connected, connected.run(recorded["run"]["run_id"])

        yield open_run


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("failed-with-events-prefixed", "preprocess failed: /data/images/train is missing: data.source is folder"),
        ("failed-in-preprocess", "preprocess failed: /data/images/train is missing: data.source is folder"),
        (
            "deploy-failed-with-events-prefixed",
            "deploy failed: 5d142e5ccf88c6dd was deployed after this model was judged: run again",
        ),
        (
            "step-killed",
            "train failed: its process was killed (exit status 137), as happens to one that needs more memory",
        ),
        ("driver-failed", "Kubeflow could not start root: its driver failed"),
        ("pods-refused", "preprocess failed: its pod ended without an error message, or never started"),
    ],
)
def test_a_failed_run_names_its_step_and_why(opened: Opened, name: str, message: str) -> None:
    assert watch.failure(*opened(name)).startswith(message)


def test_the_cluster_is_asked_where_neither_step_nor_server_say_why(opened: Opened) -> None:
    for name in ("driver-failed", "pods-refused", "step-killed"):
        assert watch.failure(*opened(name), lambda: "violates PodSecurity").endswith("violates PodSecurity")
    assert "PodSecurity" not in watch.failure(*opened("failed-with-events-prefixed"), lambda: "violates PodSecurity")


def test_every_finished_step_is_in_the_table(opened: Opened) -> None:
    _, events = watch.outcome(*opened("deploy-failed-with-events-prefixed"))
    assert list(events) == ["preprocess", "validate", "train", "embed", "index", "analyse"]
    assert events["index"].made == "Flat index of 3600"
    assert events["analyse"].verdict is not None


@pytest.mark.parametrize(
    ("name", "word", "reason"),
    [
        ("deployed-again", "DEPLOYED", "accuracy 0.9960; its network and index are those served already"),
        ("pod-deleted-and-retried", "DEPLOYED", "accuracy "),
        ("rejected-below-baseline", "REJECTED", "accuracy "),
        ("rejected-not-better", "REJECTED", "accuracy "),
    ],
)
def test_word_and_reason_are_known_though_the_events_are_blank(
    opened: Opened, name: str, word: str, reason: str
) -> None:
    outcome, events = watch.outcome(*opened(name))
    assert (outcome.word, events) == (word, {})
    assert outcome.reason.startswith(reason)


@pytest.mark.parametrize(
    ("name", "time", "waiting", "given_up"),
    [
        ("pods-unschedulable", "17:09:00", True, None),
        ("pods-refused", "17:11:40", True, None),
        ("pods-refused", "17:13:20", True, "preprocess"),
        ("pod-deleted-and-retried", "17:06:50", True, None),  # the second pod is pending
        ("pod-deleted-and-retried", "17:07:30", False, None),  # and runs
        ("pod-deleted-and-retried", "17:08:30", True, None),  # a short step: the server looks every 10 s
    ],
)
def test_a_pod_that_does_not_start_is_seen(
    opened: Opened, name: str, time: str, waiting: bool, given_up: str | None
) -> None:
    """At a moment of the run, by the history of its tasks."""
    _, run = opened(name)
    for task in list(run.run_details.task_details):
        states = [one.state for one in task.state_history if f"{one.update_time:%H:%M:%S}" <= time]
        task.state = states[-1] if states else None
        if not states:
            run.run_details.task_details.remove(task)
    assert (watch.is_waiting(run), watch.given_up(run)) == (waiting, given_up)


def test_a_step_that_is_never_seen_running_is_progress(opened: Opened) -> None:
    _, run = opened("deployed-again")
    assert watch.pods_done(run) == 17


def test_a_run_that_lost_its_workflow_waits(opened: Opened) -> None:
    assert watch.is_waiting(opened("orphan-of-a-schedule")[1])
