"""`submit` runs the pipeline and waits for the outcome, against a strict stand-in of Kubeflow's API."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.images.tag import tag
from tests.stand_ins.kfp import Kfp, look, node
from tests.stand_ins.kfp_http import Server
from tests.support.kubeflow_project import DEPLOYED, GATED, Run, environment, git, log, made


def test_submit_creates_everything_and_waits_for_the_outcome(
    run_anew: Run, kfp: Kfp, server: Server, committed: Path, tmp_path: Path
) -> None:
    kfp.token = "a-token-of-the-test"
    more = {"KFP_TOKEN": kfp.token, "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    done = run_anew("submit", "--wait", "--poll", "0.1", **more)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "DEPLOYED abc: good enough"
    assert "preprocess: running\npreprocess: succeeded\n" in done.stdout
    commit = git(committed, "rev-parse", "HEAD")
    (version,) = kfp.versions
    assert re.fullmatch(rf"{commit}-[0-9a-f]{{16}}", version["name"])
    branch = git(committed, "branch", "--show-current")
    assert version["description"].startswith(f"commit {commit}, branch {branch}, images {server.address}/")
    assert f"-train:{tag('train')}, " in version["description"]
    (started,) = kfp.runs
    assert commit[:12] in started["display_name"]
    assert started["service_account"] == "train-pipeline"
    assert started["runtime_config"]["parameters"]["baseline"] == 0.8
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("## DEPLOYED\n")
    assert "| train | SUCCEEDED | 7 | things |" in summary
    assert "| **a\\|b** | 9 | 1 |" in summary
    assert f"/#/runs/details/{started['run_id']})" in summary
    written = [path for folder in (committed, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if kfp.token.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_the_same_revision_reuses_pipeline_and_version(run: Run, kfp: Kfp) -> None:
    kfp.page = 1
    assert [run("submit").returncode for _ in range(2)] == [0, 0]
    assert made(kfp) == [1, 1, 1, 2, 0]
    for name in ("x", "y"):  # names before it, on pages before it
        kfp.pipelines.insert(0, {**kfp.pipelines[0], "name": name, "display_name": name, "pipeline_id": name})
    assert run("submit").returncode == 0
    assert made(kfp) == [3, 1, 1, 3, 0]


@pytest.mark.parametrize(
    ("script", "logs", "word"),
    [
        (look("SUCCEEDED", **GATED), {}, "REJECTED good enough"),
        pytest.param(look("SUCCEEDED", **GATED, deploy="SKIPPED"), {}, "REJECTED good enough", marks=pytest.mark.slow),
        (
            look("SUCCEEDED", **GATED, deploy="SUCCEEDED"),
            {node("deploy"): log("deploy", unchanged=True)},
            "UNCHANGED abc",
        ),
    ],
)
def test_every_successful_run_has_its_outcome(run: Run, kfp: Kfp, script: Any, logs: dict[str, str], word: str) -> None:
    kfp.script = [script]
    kfp.logs.update(logs)
    done = run("submit", "--wait", "--poll", "0.1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith(word)


def test_a_run_with_nothing_to_do_says_so(run: Run, kfp: Kfp) -> None:
    """It ends after preprocess, which says how; without its log, the word follows from the states of the steps."""
    kfp.script = [look("SUCCEEDED", preprocess="SUCCEEDED", **{"condition-1": "SKIPPED"})]
    said = "UNCHANGED abc: good enough"
    kfp.logs[node("preprocess")] += f'event {{"event": "settled", "step": "preprocess", "outcome": "{said}"}}\n'
    assert run("submit", "--wait", "--poll", "0.1").stdout.splitlines()[-1] == said
    kfp.logs.clear()
    assert run("submit", "--wait", "--poll", "0.1").stdout.splitlines()[-1].startswith("UNCHANGED there was nothing to")


@pytest.mark.slow
def test_without_logs_the_outcome_is_known_and_the_reason_is_not(run: Run, kfp: Kfp) -> None:
    kfp.logs.clear()
    done = run("submit", "--wait", "--poll", "0.1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "DEPLOYED the logs of its pods are not kept"


@pytest.mark.parametrize(
    "state", ["FAILED", *(pytest.param(state, marks=pytest.mark.slow) for state in ("CANCELED", "SKIPPED"))]
)
def test_every_failed_run_ends_the_wait_with_status_1(run: Run, kfp: Kfp, tmp_path: Path, state: str) -> None:
    kfp.script = [look(state, preprocess="SUCCEEDED", train="FAILED")]
    kfp.logs[node("train")] = log("train", "failed", error="the loss is NaN: lower train.learning_rate")
    done = run("submit", "--wait", "--poll", "30", GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))
    assert done.returncode == 1
    assert f"the run ended as {state}: train failed: the loss is NaN: lower train.learning_rate" in done.stderr
    summary = (tmp_path / "summary.md").read_text()
    assert "train failed: the loss is NaN" in summary
    assert "| preprocess | SUCCEEDED | 7 | things |" in summary


def test_behind_the_pages_logs_are_read_from_them(run: Run, kfp: Kfp) -> None:
    """As with the address of a multi-user server, whose gateway leads to the pages."""
    kfp.behind_pages, kfp.namespaces = True, ("mine",)
    done = run("submit", "--wait", "--poll", "0.1", KFP_NAMESPACE="mine")
    assert done.stdout.splitlines()[-1] == "DEPLOYED abc: good enough"
    assert "train         things\n" in done.stdout


@pytest.mark.slow
def test_a_step_that_was_tried_again_has_the_log_of_its_last_pod(run: Run, kfp: Kfp) -> None:
    kfp.script = [look("SUCCEEDED", **{**GATED, "train": "SUCCEEDED/FAILED/SUCCEEDED"}, deploy="SUCCEEDED")]
    kfp.logs[node("train", 1)] = log("train", made="60 epochs")
    kfp.logs[node("train")] = log("train", "failed", error="killed")
    assert "train         60 epochs\n" in run("submit", "--wait", "--poll", "0.1").stdout


def test_a_run_goes_on_after_the_deadline(run: Run, kfp: Kfp) -> None:
    kfp.script = [look("RUNNING", train="RUNNING")]
    done = run("submit", "--wait", "--poll", "0.1", "--timeout", "0.005")
    assert done.returncode == 1
    assert "not ended within 0.005 minutes; it goes on, now in train: http" in done.stderr


@pytest.mark.slow
def test_transient_errors_do_not_end_the_wait(run: Run, kfp: Kfp, server: Server) -> None:
    kfp.script = [look("RUNNING"), *DEPLOYED]
    answer = kfp.answer

    def troubled(method: str, url: str, *rest: Any) -> Any:
        if "/runs/" in url and len(kfp.asked) % 2:
            kfp.trouble = [500]
        return answer(method, url, *rest)

    kfp.answer = troubled  # type: ignore[method-assign]
    done = run("submit", "--wait", "--poll", "0.1")
    assert done.returncode == 0, done.stderr


def test_an_expired_token_ends_the_wait(run: Run, kfp: Kfp) -> None:
    kfp.script = [look("RUNNING", train="RUNNING")]
    create = kfp._create_run

    def and_expire(**words: Any) -> Any:
        kfp.token = "expired"
        return create(**words)

    kfp._create_run = and_expire  # type: ignore[method-assign]
    done = run("submit", "--wait", "--poll", "30")
    assert done.returncode == 1
    assert "does not accept the token (401" in done.stderr
    assert "the run goes on: http" in done.stderr


@pytest.mark.parametrize(("answer", "stopped"), [("y", True), pytest.param("n", False, marks=pytest.mark.slow)])
def test_ctrl_c_asks_whether_to_stop_the_run(
    registered: Path, kfp: Kfp, server: Server, answer: str, stopped: bool
) -> None:
    kfp.script = [look("RUNNING", train="RUNNING")]
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "pipeline", "submit", "--wait", "--poll", "0.2"]
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(
        command,
        cwd=registered,
        env=environment(server),
        stdin=other,
        text=True,
        **out,  # type: ignore[call-overload]
    ) as process:
        while "train: running" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        os.write(terminal, f"{answer}\n".encode())
        said = process.stdout.read()
    assert process.returncode == 130
    assert ("stopping the run" in said) is stopped
    assert (kfp.runs[0]["state"] == "CANCELING") is stopped
