"""Logging in to the registry, and two revisions' models side by side."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.events import Finished, Verdict, line
from contract.paths import ROOT
from pipeline.local.compare import comparison, verdict_in
from pipeline.outcome import Outcome


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_a_login_there_is_nothing_to_do() -> None:
    done = run("login", REGISTRY_USER="", REGISTRY_PASSWORD="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no login" in done.stdout


@pytest.mark.parametrize("name", ["REGISTRY_USER", "REGISTRY_PASSWORD"])
def test_half_a_login_is_refused(name: str) -> None:
    done = run("login", **{name: "x"})
    assert done.returncode == 2
    assert "only one is set" in done.stderr


def test_a_login_without_docker_says_what_is_needed(tmp_path: Path) -> None:
    done = run("login", REGISTRY_USER="x", REGISTRY_PASSWORD="y", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "Docker is needed" in done.stderr


def test_models_stand_side_by_side() -> None:
    theirs, ours = Verdict(0.98, "a|b", 0.9, True, "good"), Verdict(0.99, "c", 0.95, True, "better")
    assert comparison("master", theirs, ours, Outcome("DEPLOYED", "2: better")).splitlines() == [
        "| | master | this |",
        "|---|---|---|",
        "| accuracy | 0.9800 on the test split | 0.9900 on the test split |",
        "| worst class | a\\|b, 0.9000 | c, 0.9500 |",
        "",
        "DEPLOYED 2: better",
    ]


def test_the_verdict_of_another_revision_is_read_from_its_log(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    verdict = Verdict(0.98, "7", 0.9, True, "good")
    log.write_text(f"[KFP Executor] starting\n{line(Finished('analyse', verdict=verdict))}\n")
    assert verdict_in(log) == verdict
    log.write_text("[KFP Executor] starting\n")
    assert verdict_in(log) is None
    assert "| accuracy | - | 0.9800 on the test split |" in comparison("old", None, verdict, Outcome("REJECTED", "bad"))


def test_a_revision_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = run("compare", "--base", "no-such-branch", "--volumes", str(tmp_path))
    assert done.returncode == 2
    assert "no-such-branch" in done.stderr
    assert "Traceback" not in done.stderr
