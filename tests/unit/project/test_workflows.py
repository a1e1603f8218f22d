"""The workflows are valid, pinned and short, with least permissions, and with secrets only in jobs that need them."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline.__main__ import main
from pipeline.images.tag import NAMES
from tests.stand_ins.kfp import Kfp
from tests.stand_ins.kfp_http import Server
from tests.support.settings import PROJECT_FILE

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(path.read_text(), yaml.BaseLoader)  # BaseLoader keeps `on` a string
    return content


def tool(name: str, *words: str | Path) -> None:
    done = subprocess.run([Path(sys.executable).with_name(name), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("dependabot", [GITHUB / "dependabot.yml"]),
    ],
)
def test_every_file_matches_its_schema(schema: str, files: list[Path]) -> None:
    assert files
    tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


def test_zizmor_finds_nothing() -> None:
    tool("zizmor", "--offline", "--quiet", GITHUB)


def test_actionlint_finds_nothing() -> None:
    tool("actionlint", *WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_commands_are_make_targets(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"(\./\S+|[\w./-]+@[0-9a-f]{40})", action)
    if path.stem != "template":
        targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for command in re.findall(r"run: (?!echo \"::notice::|\{)([^},\n]+)", text):
            words = command.split()
            assert words[0] == "make"
            assert set(words[1:]) <= targets


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_may_only_read_the_repository(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] in ({}, "")
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        checkout = job["steps"][0]
        assert checkout["uses"].startswith("actions/checkout@")
        assert checkout["with"]["persist-credentials"] == "false"


def test_secrets_are_only_in_steps_that_need_them_and_in_environments() -> None:
    found = set()
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            for step in job["steps"]:
                secrets = set(re.findall(r"secrets\.(\w+)", str(step.pop("env", ""))))
                found |= {(path.stem, name, secret) for secret in secrets}
                assert not secrets or job["environment"]
            assert "secrets." not in str(job)
    assert found == {
        ("ct", "missing", "REGISTRY_PASSWORD"),
        ("ct", "images", "REGISTRY_PASSWORD"),
        ("ct", "run", "REGISTRY_PASSWORD"),
        ("ct", "run", "KFP_TOKEN"),
    }


def test_nothing_is_submitted_unless_tests_pass_and_images_are_pushed() -> None:
    workflow = load(GITHUB / "workflows/ct.yml")
    jobs = workflow["jobs"]
    assert jobs["images"]["needs"] == ["test", "missing"]
    assert jobs["run"]["needs"] == ["test", "missing", "images"]
    assert jobs["missing"]["if"] == "vars.KFP_HOST != ''"
    assert jobs["images"]["if"] == "needs.missing.outputs.images != '[]'"
    # It goes on where images is skipped, and not after a failure.
    assert jobs["run"]["if"] == "needs.missing.result == 'success' && !failure() && !cancelled()"
    assert (
        jobs["images"]["strategy"]["matrix"]["image"]
        == "${{ fromJSON(needs.missing.result == 'success' && needs.missing.outputs.images || '[]') }}"
    )
    assert jobs["missing"]["outputs"] == {"images": "${{ steps.asked.outputs.images }}"}
    assert set(workflow["on"]) == {"push", "schedule", "workflow_dispatch", "repository_dispatch"}
    assert workflow["on"]["push"] == {"branches": ["master", "main"]}
    assert workflow["concurrency"]["cancel-in-progress"] == "false"


def test_every_command_runs_in_the_folder_of_the_project() -> None:
    for path in WORKFLOWS:
        if path.stem != "template":
            assert load(path)["defaults"] == {"run": {"working-directory": "."}}
            assert "./.github" not in path.read_text()


@pytest.mark.parametrize("in_actions", [True, False])
@pytest.mark.parametrize("lacking", [[], ["train", "deploy"]])
def test_the_matrix_has_the_images_that_the_registry_lacks(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    in_actions: bool,
    lacking: list[str],
) -> None:
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    if in_actions:
        monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "outputs"))
    kfp = Kfp()
    kfp.images = {f"continuous-training-{name}" for name in NAMES if name not in lacking}
    with Server(kfp) as registry:
        settings = yaml.safe_load(PROJECT_FILE.read_text())
        (tmp_path / "project.yaml").write_text(yaml.safe_dump({**settings, "registry": registry.address}))
        assert main(["missing", "--project", str(tmp_path / "project.yaml")]) == 0
    assert json.loads(capsys.readouterr().out) == lacking
    if in_actions:
        assert json.loads((tmp_path / "outputs").read_text().removeprefix("images=")) == lacking


@pytest.mark.slow
def test_asking_for_images_imports_what_its_lock_has() -> None:
    """The first job installs pipeline/images/requirements.txt alone, so neither torch nor numpy nor kfp is there."""
    lock = (ROOT / "pipeline/images/requirements.txt").read_text()
    locked = set(re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
    code = "import sys; from pipeline.__main__ import main; main(sys.argv[1:])"
    code += "; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code, "missing", "--project", str(PROJECT_FILE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    packages = metadata.packages_distributions()
    used = {package for name in done.stdout.split() for package in packages.get(name, ())}
    others = {"setuptools", "pytest-cov", "coverage", "click"}  # that start with Python, or that httpx takes if there
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in used} - others <= locked
    assert not locked & {"torch", "numpy", "kfp"}
