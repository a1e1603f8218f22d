"""The Git revision that names a run: asks Git, writes nothing."""

from pipeline.git import GitError, git
from pipeline.settings import SettingsError


def revision() -> str:
    """The commit that is checked out.

    Returns:
        The 40 hexadecimal digits of the commit.

    Raises:
        SettingsError: There is no commit, or the working tree has changes that are in no commit.
    """
    try:
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except GitError as error:
        raise SettingsError(
            f"{error}; a run is named by its commit, so this folder must be a repository with one"
        ) from error
    if changed:
        names = ", ".join(line[3:] for line in changed.splitlines()[:5])
        raise SettingsError(
            f"the working tree has uncommitted changes ({names}), and a run is named by its commit: commit or undo them"
        )
    return commit
