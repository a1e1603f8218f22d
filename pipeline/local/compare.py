"""Compares the model of this working tree with the model of another revision: runs the pipeline for both here.

Both runs use the same volumes, so the other revision's model is the champion for this one. Writes the volumes, and
GitHub's job summary.
"""

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from contract.events import Finished, Verdict, parse
from contract.paths import ROOT
from pipeline.git import GitError, folder_in_repository, git
from pipeline.local.run import run
from pipeline.outcome import Outcome, RunError
from pipeline.settings import SettingsError, load_params, load_project
from steps.common.volumes import LOGS


def compare(base: str, volumes: Path) -> str:
    """Run the pipeline of another revision, then this one's, on the same volumes.

    Args:
        base: The other revision, as Git takes it.
        volumes: The folder of the volumes.

    Returns:
        The comparison, as Markdown.

    Raises:
        SettingsError: There is no such revision, or this revision's settings are wrong.
        RunError: A run failed.
    """
    try:
        commit = git("rev-parse", "--verify", f"{base}^{{commit}}")
    except GitError as error:
        raise SettingsError(
            f"--base: is {base!r}; it must be a revision of this repository, such as origin/master ({error})"
        ) from error
    project, params = load_project(ROOT / "project.yaml"), load_params(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory() as folder:
        worktree = Path(folder, "base")
        git("worktree", "add", "--quiet", "--detach", str(worktree), commit)
        try:
            theirs = _run_revision(worktree / folder_in_repository(), volumes)
        finally:
            git("worktree", "remove", "--force", str(worktree))
    ours = run(project, params, volumes, Console(file=io.StringIO()))
    text = comparison(base, theirs, ours.verdict, ours.outcome)
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    return text


def comparison(base: str, theirs: Verdict | None, ours: Verdict, outcome: Outcome) -> str:
    """Two verdicts side by side.

    Args:
        base: The name of the other revision.
        theirs: Its verdict; None if its log has none.
        ours: This revision's verdict.
        outcome: The outcome of this revision's run.

    Returns:
        A table in Markdown, and the outcome.
    """
    lines = [f"| | {base} | this |", "|---|---|---|"]
    lines += [
        f"| {name} | {left} | {right} |" for (name, left), (_, right) in zip(_rows(theirs), _rows(ours), strict=True)
    ]
    return "\n".join([*lines, "", str(outcome), ""])


def verdict_in(log: Path) -> Verdict | None:
    """The verdict of a run.

    Args:
        log: The log of the run, of this revision or of an earlier one.

    Returns:
        The verdict; None if the run was not judged.
    """
    events = map(parse, log.read_text(encoding="utf-8", errors="replace").splitlines())
    verdicts = [event.verdict for event in events if isinstance(event, Finished) and event.verdict]
    return verdicts[-1] if verdicts else None


def _rows(verdict: Verdict | None) -> list[tuple[str, str]]:
    accuracy, worst = "-", "-"
    if verdict:
        accuracy = f"{verdict.accuracy:.4f} on the test split"
        worst = f"{verdict.worst_label}, {verdict.worst_accuracy:.4f}".replace("|", "\\|")
    return [("accuracy", accuracy), ("worst class", worst)]


def _run_revision(folder: Path, volumes: Path) -> Verdict | None:
    """Run the pipeline of the revision in a folder, in a process of its own: its code is another."""
    if not (folder / "project.yaml").is_file():
        raise SettingsError("--base: has no project in this folder: name a revision with one")
    command = [sys.executable, "-m", "pipeline", "run", "--volumes", str(volumes.absolute())]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        error = process.communicate()[1]
    if process.returncode:
        raise RunError(f"the run of {folder} failed: {error.strip()}")
    logs = sorted((volumes / LOGS).glob(f"run-*-{process.pid}.log"))
    return verdict_in(logs[-1]) if logs else None
