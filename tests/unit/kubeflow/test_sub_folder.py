"""A project in a folder of a larger repository: what is outside of it is another team's, and changes nothing."""

import shutil
from pathlib import Path

import pytest

from pipeline import git as git_calls
from pipeline.kubeflow.revision import branch, revision
from pipeline.local import compare as comparing
from pipeline.settings import SettingsError
from tests.support.kubeflow_project import git
from tests.support.settings import PARAMS_FILE, PROJECT_FILE


@pytest.fixture(params=["teams/vision", ""], ids=["in a folder", "at the root"])
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project; its files are its settings alone."""
    folder = tmp_path / "repository" / str(request.param)
    folder.mkdir(parents=True)
    for file in (PROJECT_FILE, PARAMS_FILE):
        shutil.copy(file, folder)
    git(tmp_path / "repository", "init", "--quiet", "--initial-branch=main")
    commit(tmp_path / "repository", "One")
    for module in (git_calls, comparing):
        monkeypatch.setattr(module, "ROOT", folder)
    return folder


def commit(repository: Path, message: str) -> str:
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", message)
    return git(repository, "rev-parse", "HEAD")


def test_the_project_is_named_by_its_own_commit(project: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    first = revision()
    assert (first, branch()) == (git(repository, "rev-parse", "HEAD"), "main")
    (repository / "another").mkdir(exist_ok=True)
    (repository / "another/team").write_text("x")
    if project == repository:
        with pytest.raises(SettingsError, match=r"uncommitted changes \(another/\)"):
            revision()
        assert revision_after(repository) != first
        return
    assert revision() == first  # though another team has a file that is in no commit
    assert revision_after(repository) == first
    (project / "params.yaml").write_text("changed: 1\n")
    with pytest.raises(SettingsError, match=r"uncommitted changes \(teams/vision/params.yaml\)"):
        revision()
    second = commit(repository, "Three")
    assert revision() == second != first


def revision_after(repository: Path) -> str:
    commit(repository, "Two")
    return revision()


def test_a_detached_commit_has_the_branch_of_its_job(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path / "repository", "checkout", "--quiet", "--detach")
    monkeypatch.delenv("GITHUB_REF_NAME", raising=False)
    assert branch() == "none"
    monkeypatch.setenv("GITHUB_REF_NAME", "main")
    assert branch() == "main"


def test_another_revision_is_run_in_its_own_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def run(folder: Path, _: Path) -> None:
        folders.append(folder)
        assert (folder / "project.yaml").is_file()
        raise comparing.RunError("seen")

    monkeypatch.setattr(comparing, "_run_revision", run)
    with pytest.raises(comparing.RunError, match="seen"):
        comparing.compare("HEAD", tmp_path / "volumes")
    assert folders[0].parts[-2:] == ("teams", "vision") if "teams" in project.parts else folders[0].name == "base"


def test_a_revision_without_the_project_is_named(project: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    git(repository, "rm", "--quiet", "-r", "--cached", ".")
    git(repository, "commit", "--quiet", "--message", "Empty", "--allow-empty")
    empty = git(repository, "rev-parse", "HEAD")
    commit(repository, "Back")
    with pytest.raises(SettingsError, match="--base: has no project in this folder"):
        comparing.compare(empty, tmp_path / "volumes")
