"""Submitting to Kubeflow, waiting, scheduling and asking, against a strict stand-in of its API on loopback."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_stand_in import Kfp, Server, look

from pipeline.kubeflow import Kubeflow, KubeflowError, LoginError, TransientError
from pipeline.schedule import cron, schedule, unschedule
from pipeline.settings import SettingsError, load_params, load_project
from pipeline.submit import submit
from steps.common.digest import ROOT, STEPS

Run = Callable[..., subprocess.CompletedProcess[str]]
PROJECT, PARAMS = load_project(ROOT / "project.yaml"), load_params(ROOT / "params.yaml")
VERDICT = {"accuracy": 0.97, "worst_label": "a|b", "worst_accuracy": 0.9, "better": True, "reason": "good enough"}
SAID: dict[str, Any] = {
    "analyse": {"id": "v1", "verdict": VERDICT, "classes": ["a|b", "c"], "confusion": [[9, 1], [0, 8]]},
    "deploy": {"version": "abc"},
}
GATED = {step: "SUCCEEDED" for step in STEPS if step != "deploy"}
DEPLOYED = [look("RUNNING", preprocess="RUNNING"), look("SUCCEEDED", **GATED, deploy="SUCCEEDED")]


def log(step: str, event: str = "finished", **fields: Any) -> str:
    """What a step's pod prints, a launcher's words before and after."""
    content = {"event": event, "step": step, "made": "things", "unchanged": False, **SAID.get(step, {}), **fields}
    return f"I0101 launcher.go:1] start\n[KFP Executor] {json.dumps(content)}\nI0101 done\n"


@pytest.fixture
def kfp() -> Kfp:
    made = Kfp()
    made.script, made.logs = list(DEPLOYED), {f"pod-{step}": log(step) for step in STEPS}
    return made


@pytest.fixture
def server(kfp: Kfp) -> Iterator[Server]:
    with Server(kfp) as running:
        yield running


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with everything committed."""
    folder = tmp_path_factory.mktemp("committed") / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("pipeline", "steps", "serving"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("project.yaml", "params.yaml", ".gitignore"):
        shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    return folder


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def run(committed: Path, server: Server) -> Run:
    """Run a command of the project, whose registry and Kubeflow are the stand-in."""
    path = committed / "project.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "registry": server.address}))
    git(committed, "add", "--all")
    git(committed, "commit", "--quiet", "--allow-empty", "-m", "One")
    return lambda *words, **more: subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=committed,
        env=environment(server, **more),
        capture_output=True,
        text=True,
        check=False,
    )


def environment(server: Server, **more: str) -> dict[str, str]:
    ours = ("KFP_", "GITHUB_", "PYTHONPATH", "DOCKER_CONFIG")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "KFP_HOST": f"http://{server.address}", "KFP_TOKEN": "right", **more}


def made(kfp: Kfp) -> list[int]:
    return [len(rows) for rows in (kfp.pipelines, kfp.versions, kfp.experiments, kfp.runs, kfp.recurring)]


def test_submit_makes_all_and_waits_for_the_verdict(run: Run, kfp: Kfp, committed: Path, tmp_path: Path) -> None:
    done = run("submit", "--wait", "--poll", "0.1", GITHUB_STEP_SUMMARY=str(tmp_path / "summary.md"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "DEPLOYED abc: good enough"
    assert "preprocess: running\npreprocess: succeeded\n" in done.stdout
    commit = git(committed, "rev-parse", "HEAD")
    assert [version["name"] for version in kfp.versions] == [commit]
    (started,) = kfp.runs
    assert commit[:12] in started["display_name"]
    assert started["service_account"] == "train-pipeline"
    assert started["runtime_config"]["parameters"]["baseline"] == 0.8
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("## DEPLOYED\n")
    assert "| train | SUCCEEDED | 7 | things |" in summary
    assert "| **a\\|b** | 9 | 1 |" in summary
    assert f"/#/runs/details/{started['run_id']})" in summary
    assert "right" not in "".join(p.read_text() for p in committed.rglob("*.yaml"))  # the token is written nowhere


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
        (look("SUCCEEDED", **GATED, deploy="SKIPPED"), {}, "REJECTED good enough"),
        (
            look("SUCCEEDED", **GATED, deploy="SUCCEEDED"),
            {"pod-deploy": log("deploy", unchanged=True)},
            "UNCHANGED abc",
        ),
    ],
)
def test_every_good_end_has_its_word(run: Run, kfp: Kfp, script: Any, logs: dict[str, str], word: str) -> None:
    kfp.script = [script]
    kfp.logs.update(logs)
    done = run("submit", "--wait", "--poll", "0.1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith(word)


def test_without_logs_the_word_is_known_and_the_numbers_are_not(run: Run, kfp: Kfp) -> None:
    kfp.logs.clear()
    done = run("submit", "--wait", "--poll", "0.1")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "DEPLOYED the logs of its pods are not kept"


@pytest.mark.parametrize("state", ["FAILED", "CANCELED", "SKIPPED"])
def test_every_bad_end_is_red_at_once(run: Run, kfp: Kfp, state: str) -> None:
    kfp.script = [look(state, preprocess="SUCCEEDED", train="FAILED")]
    kfp.logs["pod-train"] = log("train", "failed", error="the loss is NaN: lower train.learning_rate")
    done = run("submit", "--wait", "--poll", "30")
    assert done.returncode == 1
    assert f"the run ended as {state}: train failed: the loss is NaN: lower train.learning_rate" in done.stderr


def test_a_run_that_outlasts_its_deadline_is_left(run: Run, kfp: Kfp) -> None:
    kfp.script = [look("RUNNING", train="RUNNING")]
    done = run("submit", "--wait", "--poll", "0.1", "--timeout", "0.01")
    assert done.returncode == 1
    assert "not ended within 0.01 minutes; it goes on, now in train: http" in done.stderr


@pytest.mark.parametrize("trouble", [[503], [502, 504], [0]])
def test_trouble_that_passes_is_waited_out(server: Server, kfp: Kfp, trouble: list[int]) -> None:
    connected = Kubeflow(f"http://{server.address}", "right", None, backoff=0.01)
    kfp.trouble = list(trouble)
    with contextlib.suppress(TransientError) if trouble == [0] else contextlib.nullcontext():
        connected.check()
    connected.check()
    assert kfp.trouble == []


def test_trouble_while_waiting_does_not_end_it(run: Run, kfp: Kfp, server: Server) -> None:
    kfp.script = [look("RUNNING"), *DEPLOYED]
    answer = kfp.answer

    def troubled(method: str, url: str, *rest: Any) -> Any:
        if "/runs/" in url and len(kfp.asked) % 2:
            kfp.trouble = [500]
        return answer(method, url, *rest)

    kfp.answer = troubled  # type: ignore[method-assign]
    done = run("submit", "--wait", "--poll", "0.1")
    assert done.returncode == 0, done.stderr


def test_lost_authentication_ends_the_wait(run: Run, kfp: Kfp) -> None:
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


@pytest.mark.parametrize(("answer", "stopped"), [("y", True), ("n", False)])
def test_interrupted_it_asks_whether_to_stop_the_run(
    run: Run, kfp: Kfp, server: Server, committed: Path, answer: str, stopped: bool
) -> None:
    kfp.script = [look("RUNNING", train="RUNNING")]
    terminal, other = pty.openpty()
    command = [sys.executable, "-m", "pipeline", "submit", "--wait", "--poll", "0.2"]
    out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(
        command,
        cwd=committed,
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


def test_there_is_one_recurring_run_whatever_is_asked(server: Server, kfp: Kfp) -> None:
    kfp.page = 1
    connected = Kubeflow(f"http://{server.address}", "right", None)
    made = (connected, PROJECT, PARAMS, "revision")
    assert [schedule(*made, "0 0 3 * * *") for _ in range(2)] == ["created", "unchanged"]
    (first,) = kfp.recurring
    assert (first["trigger"]["cron_schedule"]["cron"], first["max_concurrency"]) == ("0 0 3 * * *", "1")
    assert first["no_catchup"] is True
    assert schedule(*made, "0 30 4 * * *") == "updated"
    (second,) = kfp.recurring
    assert second["recurring_run_id"] != first["recurring_run_id"]
    assert [unschedule(connected, PROJECT) for _ in range(2)] == [1, 0]
    assert (kfp.recurring, kfp.runs) == ([], [])


def test_schedule_and_unschedule_are_commands(run: Run, kfp: Kfp) -> None:
    assert run("schedule", "--cron", "0 3 * * *").stdout.startswith("schedule created: ")
    assert [one["trigger"]["cron_schedule"]["cron"] for one in kfp.recurring] == ["0 0 3 * * *"]
    assert run("unschedule").stdout == "schedule removed\n"
    assert kfp.recurring == []


@pytest.mark.parametrize("text", ["", "* * * *", "a b c d e f g", "0 3 * * * ; rm", "daily", "0 0 0 3 * * *"])
def test_a_cron_line_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--cron: is "):
        cron(text)


@pytest.mark.parametrize("text", ["*/5 * * * *", "0 3 1,15 * MON-FRI", "0 0 3 * * ?"])
def test_a_cron_line_has_seconds_for_kubeflow(text: str) -> None:
    assert len(cron(text).split()) == 6


def test_status_lists_the_last_runs_with_their_verdicts(run: Run, kfp: Kfp, server: Server) -> None:
    assert run("status").stdout.startswith("no run of ")
    connected = Kubeflow(f"http://{server.address}", "right", None)
    failed, running = look("FAILED", error="no node"), look("RUNNING", train="RUNNING")
    for end in (DEPLOYED[1], look("SUCCEEDED", **GATED), failed, running):
        kfp.script = [end]
        connected.run(submit(connected, PROJECT, PARAMS, "revision"))
    kfp.page = 10
    lines = run("status").stdout.splitlines()
    assert [line.split("  ")[2] for line in lines] == ["RUNNING", "FAILED", "REJECTED", "DEPLOYED"]
    assert lines[1].endswith("no node")
    assert lines[3].endswith("abc: good enough")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"KFP_HOST": ""}, "there is no Kubeflow host"),
        ({"KFP_HOST": "kubeflow.example"}, "the Kubeflow host is 'kubeflow.example'"),
        ({"KFP_HOST": "http://[::1"}, "the Kubeflow host is 'http://[::1'"),
        ({"KFP_TOKEN": "wrong"}, "does not accept the token (401"),
        ({"KFP_TOKEN": ""}, "does not accept the token (401"),
    ],
)
def test_a_server_that_cannot_be_used_is_said_so(run: Run, kfp: Kfp, more: dict[str, str], message: str) -> None:
    done = run("submit", "--wait", **more)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert made(kfp) == [0] * 5


def test_a_server_that_is_down_is_said_so() -> None:
    with pytest.raises(TransientError, match="does not answer .*refused"):
        Kubeflow("http://127.0.0.1:9", None, None, backoff=0.001)


def test_what_is_no_kubeflow_server_is_said_so(server: Server) -> None:
    with pytest.raises(KubeflowError, match="is the address of a Kubeflow Pipelines server"):
        Kubeflow(f"http://{server.address}/elsewhere", "right", None)


def test_a_namespace_is_used_where_there_are_many(server: Server, kfp: Kfp) -> None:
    kfp.namespaces = ("mine",)
    host = f"http://{server.address}"
    with pytest.raises(KubeflowError, match="--namespace or KFP_NAMESPACE"):
        Kubeflow(host, "right", None)
    with pytest.raises(LoginError, match="the namespace 'other'.* set KFP_NAMESPACE to one that exists"):
        Kubeflow(host, "right", "other").check()
    Kubeflow(host, "right", "mine").experiment("x")
    assert kfp.experiments[0]["namespace"] == "mine"


def test_a_namespace_does_no_harm_where_there_are_none(server: Server, kfp: Kfp) -> None:
    Kubeflow(f"http://{server.address}", "right", "any").experiment("x")
    assert "namespace" not in kfp.experiments[0]


def test_an_image_that_the_registry_lacks_is_named(run: Run, kfp: Kfp) -> None:
    name = yaml.safe_load((ROOT / "project.yaml").read_text())["name"]
    kfp.images = {f"{name}-{step}" for step in STEPS if step != "train"}
    done = run("submit")
    assert done.returncode == 2
    assert f"/{name}-train:" in done.stderr
    assert "make push" in done.stderr
    assert made(kfp) == [0] * 5


def test_uncommitted_changes_are_refused(run: Run, kfp: Kfp, committed: Path) -> None:
    (committed / "params.yaml").write_text((committed / "params.yaml").read_text() + "# changed\n")
    try:
        done = run("submit")
    finally:
        git(committed, "checkout", "--quiet", "params.yaml")
    assert done.returncode == 2
    assert "(params.yaml)" in done.stderr
    assert "commit or undo them" in done.stderr
    assert (made(kfp), kfp.asked) == ([0] * 5, [])


def test_the_stand_in_is_strict(server: Server, kfp: Kfp) -> None:
    import requests

    kfp.pipelines.append({"name": "a", "pipeline_id": "1", "display_name": "a"})
    url, login = f"http://{server.address}/apis/v2beta1", {"Authorization": "Bearer right"}
    asked: list[tuple[int, str, str, Any]] = [
        (401, "GET", f"{url}/runs", {"headers": {}}),
        (404, "GET", f"{url}/nothing", {}),
        (405, "DELETE", f"{url}/pipelines", {}),
        (400, "GET", f"{url}/runs?size=3", {}),
        (409, "POST", f"{url}/pipelines", {"json": {"name": "a", "display_name": "a"}}),
        (400, "POST", f"{url}/pipelines", {"json": {"name": "b"}}),
        (400, "POST", f"{url}/experiments", {"json": {"display_name": "b", "experiment_id": "1"}}),
        (404, "GET", f"{url}/runs/1", {}),
    ]
    got = [requests.request(method, to, timeout=9, **{"headers": login, **more}) for _, method, to, more in asked]
    assert [answer.status_code for answer in got] == [status for status, *_ in asked]
    assert all(set(answer.json()) == {"code", "message", "details"} for answer in got)
