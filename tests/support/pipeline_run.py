"""Runs `python -m pipeline run` as a user does, and reads its output."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from contract.paths import ROOT
from steps.registry import STEP_NAMES
from tests.support.examples import OPEN_GATE, PARAMS
from tests.support.settings import PROJECT_FILE

Done = subprocess.CompletedProcess[str]
QUICK: dict[str, dict[str, Any]] = {"train": {"epochs": 2}, "gate": OPEN_GATE}


def write_params(file: Path, change: dict[str, dict[str, Any]]) -> Path:
    """Write the tests' parameters with some of them changed."""
    sections = {section: {**values, **change.get(section, {})} for section, values in PARAMS.items()}
    file.write_text(yaml.safe_dump(sections))
    return file


def run_command(volumes: Path, change: dict[str, dict[str, Any]]) -> list[str]:
    """The command that runs the pipeline on these volumes, with changed parameters."""
    params = write_params(volumes.parent / "params.yaml", change)
    command = [sys.executable, "-m", "pipeline", "run", "--volumes", volumes, "--params", params]
    return [*map(str, command), "--project", str(PROJECT_FILE)]


def run(volumes: Path, change: dict[str, dict[str, Any]], root: Path = ROOT) -> Done:
    """Run the pipeline of the repository at `root`."""
    command = run_command(volumes, change)
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def seconds(done: Done) -> dict[str, str]:
    """The second column of the closing table, by step."""
    rows = re.findall(r"^(\w+) +(unchanged|-|\d+\.\d) +\S", done.stdout, re.MULTILINE)
    return {step: value for step, value in rows if step in STEP_NAMES}


def made_anew(done: Done) -> set[str]:
    """The steps that did work."""
    return {step for step, value in seconds(done).items() if value not in ("unchanged", "-")}


def last_line(done: Done) -> str:
    """The last line of a run; the run must have ended with status 0."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
