"""The Git revision that a run is named by: asks git, writes nothing."""

import subprocess

from contract.paths import ROOT
from pipeline.settings import SettingsError


def revision() -> str:
    """The commit that is checked out; SettingsError if there is none, or if the working tree is not what it holds."""
    commit = _git("rev-parse", "HEAD")
    if changed := _git("status", "--porcelain"):
        names = ", ".join(line[3:] for line in changed.splitlines()[:5])
        raise SettingsError(
            f"the working tree has changes that are in no commit ({names}), so nobody could say later what ran: commit "
            "or undo them"
        )
    return commit


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    except OSError as error:
        raise SettingsError(f"git cannot be started ({error.strerror}): install it") from error
    if done.returncode:
        raise SettingsError(
            f"git {' '.join(words)} failed in {ROOT} ({done.stderr.strip()}): a run is named by its commit, so make "
            "this folder a Git repository with one"
        )
    return done.stdout.rstrip("\n")
