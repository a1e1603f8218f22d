"""The Git revision that names a run: asks Git, writes nothing.

The project may be a folder of a larger repository. What changes outside of it is another's, and names no run.
"""

import os

from pipeline.git import GitError, folder_in_repository, git
from pipeline.settings import SettingsError


def revision() -> str:
    """The commit that is checked out; in a larger repository, the last one that changed the project's folder.

    Returns:
        The 40 hexadecimal digits of the commit.

    Raises:
        SettingsError: There is no commit, or the project has changes that are in no commit.
    """
    try:
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".")
        if folder_in_repository():
            commit = git("log", "-1", "--format=%H", "--", ".")
    except GitError as error:
        raise SettingsError(
            f"{error}; a run is named by its commit, so this folder must be a repository with one"
        ) from error
    if changed or not commit:
        names = ", ".join(line[3:] for line in changed.splitlines()[:5]) or "everything"
        raise SettingsError(
            f"the working tree has uncommitted changes ({names}), and a run is named by its commit: commit or undo them"
        )
    return commit


def branch() -> str:
    """The branch that is checked out; in a job of GitHub, which checks out a commit, the branch that started it."""
    try:
        return git("symbolic-ref", "--short", "HEAD")
    except GitError:
        return os.environ.get("GITHUB_REF_NAME") or "none"
