"""The CronJob drift: a run on Kubeflow as the last one was, one at a time and not too often, and only for retrain."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.loop import drift as record
from contract.loop.collected import FOLDER
from steps.drift import commands
from steps.drift.__main__ import main
from steps.drift.retrain import RunNotStartedError, Server, start_run, token_of
from tests.stand_ins import kfp_http
from tests.stand_ins.kfp import Kfp
from tests.support.drifting import collect, sample, serve

NAME = "digits"
DAY = timedelta(hours=24)
PARAMETERS = {"name": NAME, "baseline": 0.8}


@pytest.fixture
def kfp() -> Kfp:
    """A server on which make submit ran the pipeline once, two days ago; and other runs of others."""
    made = Kfp()
    for name in ("other", "another", NAME):
        made.experiments.append({"experiment_id": f"e-{name}", "display_name": name})
    made.pipelines.append({"pipeline_id": "p", "display_name": NAME})
    inputs = {"pipeline_spec": {"root": {"inputDefinitions": {"parameters": PARAMETERS}}}}
    made.versions.append({"pipeline_version_id": "v", "pipeline_id": "p", "pipeline_spec": inputs})
    ran(made, timedelta(days=2))
    ran(made, timedelta(0), experiment_id="e-other", state="RUNNING")
    return made


def ran(kfp: Kfp, ago: timedelta, **change: Any) -> None:
    run = {
        "run_id": f"r{len(kfp.runs)}",
        "display_name": f"{NAME} 0123456789ab",
        "experiment_id": f"e-{NAME}",
        "created_at": (datetime.now(UTC) - ago).isoformat().replace("+00:00", "Z"),
        "pipeline_version_reference": {"pipeline_id": "p", "pipeline_version_id": "v"},
        "runtime_config": {"parameters": PARAMETERS},
        "service_account": "train-pipeline",
        "state": "SUCCEEDED",
        "script": [{"state": "SUCCEEDED"}],
    }
    kfp.runs.append({**run, **change})


@pytest.fixture
def server(kfp: Kfp) -> Iterator[str]:
    with kfp_http.Server(kfp) as running:
        yield f"http://{running.address}"


def start(address: str, token: str | None = "right", namespace: str | None = None) -> str:
    return start_run(Server(address, token, namespace, backoff=0.01), NAME, DAY, datetime.now(UTC))


def test_the_last_run_is_repeated(kfp: Kfp, server: str) -> None:
    before = kfp.runs[0]
    assert start(server).startswith(f"started {kfp.runs[-1]['run_id']}: {NAME} drift 2")
    new = kfp.runs[-1]
    assert len(kfp.runs) == 3
    for key in ("experiment_id", "pipeline_version_reference", "runtime_config", "service_account"):
        assert new[key] == before[key]
    assert {path for _, path in kfp.asked} == {"/apis/v2beta1/experiments", "/apis/v2beta1/runs"}


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELING", "PAUSED", ""])
def test_one_run_at_a_time(kfp: Kfp, server: str, state: str) -> None:
    ran(kfp, timedelta(days=1, hours=1), state=state)
    assert start(server) == f"no run is started: {NAME} 0123456789ab is in progress"
    assert len(kfp.runs) == 3


@pytest.mark.parametrize(("hours", "starts"), [(23, False), (25, True)])
@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED"])
def test_the_next_run_waits_for_the_cooldown(kfp: Kfp, server: str, hours: int, starts: bool, state: str) -> None:
    ran(kfp, timedelta(hours=hours), state=state)
    said = start(server)
    assert (len(kfp.runs) == 4) == starts == said.startswith("started ")
    assert starts or "less than 24 hours ago" in said


def test_without_a_run_to_repeat_none_starts(kfp: Kfp, server: str) -> None:
    kfp.runs.clear()
    assert "there is no run of 'digits' to repeat; make submit makes the first" in start(server)
    kfp.experiments.clear()
    assert "there is no run of 'digits' to repeat" in start(server)


def test_on_a_multi_user_server_everything_is_in_its_namespace(kfp: Kfp, server: str) -> None:
    kfp.namespaces = ("team",)
    for experiment in kfp.experiments:
        experiment["namespace"] = "team"
    assert start(server, namespace="team").startswith("started ")
    with pytest.raises(RunNotStartedError, match="refuses to list experiments \\(403"):
        start(server, namespace="others")


def test_refusals_say_what_the_server_said(kfp: Kfp, server: str) -> None:
    with pytest.raises(RunNotStartedError, match="refuses to list experiments .401: the bearer token is not valid"):
        start(server, token="wrong-secret")
    kfp.trouble = [503, 503]
    assert start(server).startswith("started ")
    with pytest.raises(RunNotStartedError, match="is no Kubeflow Pipelines server that answers"):
        start_run(Server("http://127.0.0.1:9", None, None, backoff=0.001), NAME, DAY, datetime.now(UTC))


def test_a_start_without_an_answer_is_not_sent_twice(kfp: Kfp, server: str) -> None:
    kfp.late = [503]
    with pytest.raises(RunNotStartedError, match="refuses to create runs"):
        start(server)
    assert len(kfp.runs) == 3
    assert "is in progress" in start(server)


def test_the_token_is_read_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert token_of(str(tmp_path / "token")) == "abc"
    assert token_of("") is None


@pytest.fixture
def check(volumes: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command of the CronJob; what it printed."""
    (tmp_path / "token").write_text("right")

    def run(*words: str, status: int = 0) -> str:
        common = ["--experiment", NAME, "--host", server, "--token-file", str(tmp_path / "token")]
        assert main(["check", *common, *words]) == status
        done = capsys.readouterr()
        return done.out + done.err

    serve(volumes, sample(np.random.default_rng(0), 300))
    return run


@pytest.mark.parametrize(
    ("scale", "least", "word", "runs"), [(1.0, 100, "none", 2), (2.0, 130, "watch", 2), (2.0, 100, "retrain", 3)]
)
def test_only_retrain_starts_a_run(
    check: Callable[..., str], kfp: Kfp, volumes: Path, scale: float, least: int, word: str, runs: int
) -> None:
    collect(volumes, sample(np.random.default_rng(2), 120, scale=scale))
    said = check("--min-images", str(least))
    assert said.startswith(f"{word}: ")
    assert len(kfp.runs) == runs
    kept = record.read(volumes / FOLDER)
    assert kept is not None
    assert kept.word == word


def test_settings_reach_the_comparison(check: Callable[..., str], kfp: Kfp, volumes: Path) -> None:
    collect(volumes, sample(np.random.default_rng(2), 120, scale=2.0))
    assert check("--min-images", "130").startswith("watch: ")
    assert check("--days", "30", "--significance", "0.001", "--classes", "false").startswith("retrain: ")
    assert "less than 100 hours ago" in check("--cooldown-hours", "100") or len(kfp.runs) == 3
    assert "--significance is 2.0" in check("--significance", "2", status=2)


def test_where_nothing_is_collected_none_is_said(check: Callable[..., str], kfp: Kfp) -> None:
    assert check().startswith("none: only 0 images were served")
    assert len(kfp.runs) == 2


def test_without_an_address_it_only_looks(check: Callable[..., str], kfp: Kfp, volumes: Path) -> None:
    collect(volumes, sample(np.random.default_rng(2), 120, scale=2.0))
    assert check("--host", "").startswith("retrain: ")
    assert len(kfp.runs) == 2


def test_a_folder_that_cannot_be_written_fails_the_job(
    check: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(record, "write", refuse)
    assert "cannot write" in check(status=commands.InputError.exit_status)
