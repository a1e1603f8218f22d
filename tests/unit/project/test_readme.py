"""The README is true: commands, paths, steps, defaults, and the form of a run's closing lines."""

import re
import subprocess
import sys

import pytest
import yaml

from contract.paths import ROOT
from steps.registry import STEP_NAMES
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

README = (ROOT / "README.md").read_text(encoding="utf-8")
PARAMS = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))


def table(heading: str) -> list[list[str]]:
    """The rows of the table in a section, without the header."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(re.findall(r"`+([^`]+)`+", README))
    named = set(re.findall(r"\bmake ([a-z-]+)", code))
    assert {"run", "serve", "predict", "test", "lint"} <= named
    assert named <= targets


def test_every_path_exists() -> None:
    cells = [path for cell, _ in table("What is where") for path in re.findall(r"`(.+?)`", cell)]
    images = re.findall(r"samples/\S+\.png", README)
    links = [link for link in re.findall(r"\]\((.+?)\)", README) if "://" not in link]
    files = re.findall(r"`((?:contract|pipeline|steps|serving|tests)/\S+|LICENSE)`", README)
    assert cells
    assert images
    assert links
    assert [path for path in (*cells, *images, *links, *files) if not (ROOT / path).exists()] == []


def test_steps_are_the_steps() -> None:
    assert " → ".join(STEP_NAMES) in README
    assert [row[0] for row in table("What a run does")] == list(STEP_NAMES)


@pytest.mark.parametrize(("section", "key", "value"), re.findall(r"`([a-z]+)\.([a-z_]+)`\s\((.+?)\)", README))
def test_defaults_are_those_of_params(section: str, key: str, value: str) -> None:
    assert str(PARAMS[section][key]) == value


def test_every_setting_exists() -> None:
    named = [(section, key) for section, key in re.findall(r"`([a-z]+)\.([a-z_]+)`", README) if section in PARAMS]
    assert len(named) >= 6
    assert [(section, key) for section, key in named if key not in PARAMS[section]] == []


def test_the_servers_address_is_right() -> None:
    port = re.findall(r"http://127\.0\.0\.1:(\d+)/predictions/\S+", README)[0]
    help_text = subprocess.run(
        [sys.executable, "-m", "serving", "start", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert f"(default: {port})" in help_text


def test_the_run_shown_ends_as_a_run_ends() -> None:
    shown = next(block for block in re.findall(r"```\n(.*?)```", README, re.DOTALL) if "step  " in block)
    steps = shown.split("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in steps] == list(STEP_NAMES)
    assert [line[:13].strip() for line in shown.split("\n\n")[1].splitlines()] == [
        *("accuracy", "worst class", "rules kept", "unknown", "would help"),
        *("served model", "prediction", "report", "log"),
    ]
    accuracy = re.findall(r"^accuracy +(0\.\d+ \(.*\)) on the test split", shown, re.MULTILINE)[0]
    assert shown.splitlines()[-1].startswith("DEPLOYED ")
    assert f"accuracy {accuracy} is above the baseline {PARAMS['gate']['baseline']:.4f}" in shown


def test_targets_settings_and_variables_of_kubeflow_exist() -> None:
    text = (ROOT / "docs/kubeflow.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    settings = yaml.safe_load(PROJECT_FILE.read_text(encoding="utf-8"))["kubeflow"]
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    named = re.findall(r"`kubeflow\.([a-z_]+)`", text)
    assert [key for key in named if key not in settings] == []
    workflow = (ROOT / ".github/workflows/ct.yml").read_text()
    variables = set(re.findall(r"`((?:KFP|REGISTRY)_[A-Z]+)`", text))
    assert variables == set(re.findall(r"(?:vars|secrets)\.(\w+)", workflow))
