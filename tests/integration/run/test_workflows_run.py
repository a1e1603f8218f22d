"""act runs the workflow of a push on this machine, with stand-ins for Kubeflow and the registry on loopback.

The stand-in's registry has all images, so none is built. The jobs' steps are those of the workflow.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from steps.registry import STEP_NAMES
from tests.stand_ins.kfp import Kfp, look
from tests.stand_ins.kfp_http import Server
from tests.support.workflow_run import commit, copied, git, prepared, push, put_test

GATED = {step: "SUCCEEDED" for step in STEP_NAMES if step != "deploy"}


@pytest.fixture
def kfp() -> Iterator[tuple[Kfp, str]]:
    made = Kfp()
    with Server(made) as server:
        yield made, server.address


@pytest.fixture
def project(tmp_path: Path, kfp: tuple[Kfp, str]) -> Path:
    return prepared(copied(tmp_path / "project"), registry=kfp[1])


@pytest.mark.slow
def test_a_push_is_tested_and_run_and_a_rejected_model_is_green(project: Path, kfp: tuple[Kfp, str]) -> None:
    kfp[0].script = [look("RUNNING", train="RUNNING"), look("SUCCEEDED", **GATED)]
    done = push(project, kfp[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| REJECTED " in done.stdout
    assert len(kfp[0].runs) == 1


@pytest.mark.slow
def test_a_project_in_a_folder_of_a_repository_is_run_from_its_main_branch(
    tmp_path: Path, kfp: tuple[Kfp, str]
) -> None:
    repository = tmp_path / "repository"
    project = copied(repository / "teams/vision")
    prepared(project, registry=kfp[1], repository=repository, branch="main")
    own = git(project, "rev-parse", "HEAD")
    (repository / "another-team").write_text("another team's")
    commit(repository)
    kfp[0].script = [look("SUCCEEDED", **GATED)]
    done = push(repository, kfp[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| REJECTED " in done.stdout
    assert [version["name"].partition("-")[0] for version in kfp[0].versions] == [own]


@pytest.mark.slow
def test_a_push_that_changed_no_image_starts_no_build(project: Path, kfp: tuple[Kfp, str]) -> None:
    kfp[0].script = [look("SUCCEEDED", **GATED)]
    done = push(project, kfp[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ct/missing" in done.stdout
    assert "ct/images" not in done.stdout


@pytest.mark.slow
def test_a_failed_run_is_red(project: Path, kfp: tuple[Kfp, str]) -> None:
    kfp[0].script = [look("FAILED", train="FAILED")]
    done = push(project, kfp[1])
    assert done.returncode != 0
    assert "train failed" in done.stdout
    assert len(kfp[0].runs) == 1


@pytest.mark.slow
def test_a_broken_test_submits_nothing(project: Path, kfp: tuple[Kfp, str]) -> None:
    put_test(project, passes=False)
    commit(project)
    done = push(project, kfp[1])
    assert done.returncode != 0
    assert "assert 'False' == 'True'" in done.stdout
    assert [path for _, path, *_ in kfp[0].asked if not path.startswith("/v2/")] == []  # the registry is only asked
    assert {method for method, *_ in kfp[0].asked} <= {"HEAD", "GET"}


@pytest.mark.slow
def test_an_image_that_cannot_be_pushed_submits_nothing(project: Path, kfp: tuple[Kfp, str]) -> None:
    (project / "project.yaml").write_text((project / "project.yaml").read_text().replace(kfp[1], "127.0.0.1:9"))
    commit(project)
    done = push(project, kfp[1])
    assert done.returncode != 0
    assert "the registry 127.0.0.1:9 does not answer" in done.stdout
    assert kfp[0].asked == []


@pytest.mark.slow
def test_where_no_kubeflow_is_set_a_push_is_tested_alone_and_green(project: Path, kfp: tuple[Kfp, str]) -> None:
    done = push(project, None)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert "no run, since the repository variable KFP_HOST is not set" in done.stdout
    assert kfp[0].asked == []
