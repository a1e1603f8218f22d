"""A run whose images several pods decode: one step in the table, and the shard that failed says why."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from contract.events import Finished
from pipeline.kubeflow import watch
from pipeline.kubeflow.client import Kubeflow
from pipeline.kubeflow.job_summary import summary
from pipeline.outcome import Outcome
from tests.stand_ins.kfp import Kfp, look, node
from tests.stand_ins.kfp_http import Server
from tests.support.kubeflow_project import GATED, log

Opened = Callable[[dict[str, Any]], tuple[Kubeflow, Any]]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """A server with a run in this state, whose scan found 30 images and whose three shards logged, and the run."""
    kfp = Kfp()
    with Server(kfp) as server:

        def open_run(state: dict[str, Any]) -> tuple[Kubeflow, Any]:
            kfp.runs = [{"run_id": "1", **state, "script": [{}]}]
            kfp.logs = {node(step): log(step) for step in ("scan", *GATED)} | {
                node(f"decode {number}"): log("decode", made=f"10 images in shard {number + 1}/3", shards=1, images=10)
                for number in (0, 2)
            }
            kfp.logs[node("decode 1")] = log("decode", "failed", error="no space left on the volume of /data")
            connected = Kubeflow(f"http://{server.address}", "right", None)
            return connected, connected.run("1")

        yield open_run


def test_a_shard_that_failed_says_why_and_the_others_stay(opened: Opened) -> None:
    server, run = opened(look("FAILED", scan="SUCCEEDED", decode="SUCCEEDED,FAILED,SUCCEEDED"))
    assert {name: task.state for name, task in watch.steps(run).items()} == {"scan": "SUCCEEDED", "decode": "FAILED"}
    assert watch.failure(server, run) == "decode failed: no space left on the volume of /data"
    assert watch.finished(server, run)["decode"].made == "20 images in 2 shards"
    assert watch.given_up(run) is None


def test_shards_have_one_state_together(opened: Opened) -> None:
    for decode, state in (
        ("SUCCEEDED,RUNNING,SUCCEEDED", "RUNNING"),
        ("RUNNING/PENDING,SUCCEEDED,SUCCEEDED", "PENDING"),
        ("RUNNING,RUNNING/PENDING,RUNNING/PENDING", "RUNNING"),
        ("SUCCEEDED,SUCCEEDED,SUCCEEDED", "SUCCEEDED"),
    ):
        _, run = opened(look("RUNNING", scan="SUCCEEDED", decode=decode))
        assert watch.state(run, watch.steps(run)["decode"]) == state
        assert watch.is_waiting(run) is (state == "PENDING")


def test_the_job_summary_has_a_row_for_all_shards(opened: Opened) -> None:
    server, run = opened(look("SUCCEEDED", scan="SUCCEEDED", decode="SUCCEEDED,SUCCEEDED,SUCCEEDED", **GATED))
    outcome, events = watch.outcome(server, run)
    assert outcome.word == "REJECTED"
    assert list(events)[:3] == ["scan", "decode", "preprocess"]
    assert isinstance(events["decode"], Finished)
    rows = [line for line in summary(run, Outcome("REJECTED", ""), events, "").splitlines() if "SUCCEEDED" in line]
    assert rows[:3] == [
        "| scan | SUCCEEDED | 7 | things |",
        "| decode | SUCCEEDED | 7 | 20 images in 2 shards |",
        "| preprocess | SUCCEEDED | 7 | things |",
    ]


def test_a_run_with_nothing_to_do_ends_after_scan(opened: Opened) -> None:
    server, run = opened(look("SUCCEEDED", scan="SUCCEEDED", **{"condition-2": "SKIPPED"}))
    outcome, events = watch.outcome(server, run)
    assert (outcome.word, list(events)) == ("UNCHANGED", ["scan"])
