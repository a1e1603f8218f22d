"""Compares the model of this working tree with that of another revision: runs the pipeline for both, on one machine.

Writes volumes, where the other's model is the champion that this one is judged against, and GitHub's job summary.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from contract.paths import ROOT
from pipeline.outcome import RunError
from pipeline.settings import SettingsError

_ROWS = ("accuracy", "worst class")


def compare(base: str, volumes: Path) -> str:
    """The comparison as Markdown; SettingsError if there is no such revision, RunError if a run fails."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}")
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder, "base")
        _git("worktree", "add", "--quiet", "--detach", str(there), commit)
        try:
            theirs = _run(there, volumes)
        finally:
            _git("worktree", "remove", "--force", str(there))
    text = table(base, theirs, _run(ROOT, volumes))
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    return text


def table(base: str, theirs: str, ours: str) -> str:
    """What two runs printed at their ends, side by side."""
    lines = [f"| | {base} | this |", "|---|---|---|"]
    lines += [f"| {row} | {_value(row, theirs)} | {_value(row, ours)} |" for row in _ROWS]
    return "\n".join([*lines, "", ours.strip().splitlines()[-1], ""])


def _value(row: str, output: str) -> str:
    found = re.search(rf"^{row} +(.+)$", output, re.MULTILINE)
    return found[1].replace("|", "\\|") if found else "-"


def _run(folder: Path, volumes: Path) -> str:
    command = [sys.executable, "-m", "pipeline", "run", "--volumes", str(volumes.absolute())]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"the run in {folder} failed: {done.stderr.strip()}")
    return done.stdout


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if done.returncode:
        raise SettingsError(f"git {' '.join(words)} failed: {done.stderr.strip() or 'there is no such revision'}")
    return done.stdout.strip()
