"""In a project with another name, linters accept the workflows, and act runs a push: tests and pipeline, in minutes."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steps.registry import STEP_NAMES
from tests.stand_ins.kfp import Kfp, look
from tests.stand_ins.kfp_http import Server
from tests.support.workflow_run import commit, prepared, push, put_test

Run = Callable[..., subprocess.CompletedProcess[str]]
GATED = {step: "SUCCEEDED" for step in STEP_NAMES if step != "deploy"}


@pytest.fixture
def kfp() -> Iterator[tuple[Kfp, str]]:
    made = Kfp()
    with Server(made) as server:
        yield made, server.address


@pytest.fixture
def project(tool: Run, out: Path, clone: Path, kfp: tuple[Kfp, str]) -> Path:
    done = tool("cookiecutter", clone, "--no-input", "project_title=Bird songs")
    assert done.returncode == 0, done.stdout + done.stderr
    return prepared(out / "bird-songs", registry=kfp[1])


def test_workflow_linters_find_nothing(project: Path) -> None:
    workflows = sorted((project / ".github/workflows").glob("*.yml"))
    assert [path.stem for path in workflows] == ["ci", "ct"]
    for words in (
        ("actionlint",),  # finds the workflows
        ("zizmor", "--offline", "--quiet", ".github"),
        ("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows),
    ):
        command = [Path(sys.executable).with_name(words[0]), *words[1:]]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_rejected_model_is_green_and_a_failed_run_red(project: Path, kfp: tuple[Kfp, str]) -> None:
    kfp[0].script = [look("RUNNING", train="RUNNING"), look("SUCCEEDED", **GATED)]
    done = push(project, kfp[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| REJECTED " in done.stdout
    kfp[0].script = [look("FAILED", train="FAILED")]
    done = push(project, kfp[1])
    assert done.returncode != 0
    assert "train failed" in done.stdout
    assert [run["display_name"].split()[0] for run in kfp[0].runs] == ["bird-songs"] * 2


@pytest.mark.slow
def test_a_broken_test_submits_nothing(project: Path, kfp: tuple[Kfp, str]) -> None:
    put_test(project, passes=False)
    commit(project)
    done = push(project, kfp[1])
    assert done.returncode != 0
    assert "assert 'False' == 'True'" in done.stdout
    assert [path for _, path, *_ in kfp[0].asked if not path.startswith("/v2/")] == []  # the registry is only asked
