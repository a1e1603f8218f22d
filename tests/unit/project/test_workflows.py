"""The workflows are valid, pinned and short, with least permissions, and with secrets only in jobs that need them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline.images.tag import NAMES

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, *(GITHUB / "actions").rglob("*.yml")]


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
        ("github-actions", sorted((GITHUB / "actions").rglob("*.yml"))),
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_and_commands_are_make_targets(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"(\./\S+|[\w./-]+@[0-9a-f]{40})", action)
    if path in WORKFLOWS and path.stem != "template":
        targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for command in re.findall(r"run: (?!echo \"::notice::)([^}\n]+)", text):
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
        ("ct", "images", "REGISTRY_PASSWORD"),
        ("ct", "run", "REGISTRY_PASSWORD"),
        ("ct", "run", "KFP_TOKEN"),
    }


def test_nothing_is_submitted_unless_tests_pass_and_images_are_pushed() -> None:
    workflow = load(GITHUB / "workflows/ct.yml")
    jobs = workflow["jobs"]
    assert (jobs["images"]["needs"], jobs["run"]["needs"]) == ("test", "images")
    conditions = [part["if"] for job in jobs.values() for part in (job, *job["steps"]) if "if" in part]
    assert conditions == ["vars.KFP_HOST == ''", "vars.KFP_HOST != ''"]  # none goes on after a failure
    assert jobs["images"]["if"] == "vars.KFP_HOST != ''"
    assert jobs["images"]["strategy"]["matrix"]["image"] == "${{ fromJSON(needs.test.outputs.images) }}"
    assert jobs["test"]["outputs"] == {"images": "${{ steps.tested.outputs.images }}"}
    assert set(workflow["on"]) == {"push", "schedule", "workflow_dispatch", "repository_dispatch"}
    assert workflow["on"]["push"] == {"branches": ["master"]}
    assert workflow["concurrency"]["cancel-in-progress"] == "false"


@pytest.mark.parametrize("in_actions", [True, False])
def test_the_matrix_has_every_image(tmp_path: Path, in_actions: bool) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "GITHUB_OUTPUT"}
    outputs = {"GITHUB_OUTPUT": str(tmp_path / "outputs")} if in_actions else {}
    command = [sys.executable, "-m", "pipeline", "matrix"]
    done = subprocess.run(command, cwd=ROOT, env={**environment, **outputs}, capture_output=True, text=True, check=True)
    names = (tmp_path / "outputs").read_text().removeprefix("images=") if in_actions else done.stdout
    assert json.loads(names) == list(NAMES)
    assert done.stdout == ("" if in_actions else names)
