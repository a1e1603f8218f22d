"""Calls Git in this repository."""

import subprocess

from contract.errors import InputError
from contract.paths import ROOT


class GitError(InputError):
    """Git failed, or is not installed; the message says what Git said."""


def git(*words: str) -> str:
    """Call Git.

    Args:
        words: The command and its arguments, such as `"rev-parse", "HEAD"`.

    Returns:
        What Git printed, without the last line break.

    Raises:
        GitError: Git failed or cannot be started.
    """
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    except OSError as error:
        raise GitError(f"git cannot be started ({error.strerror}): install it") from error
    if done.returncode:
        raise GitError(f"git {' '.join(words)} failed in {ROOT}: {done.stderr.strip() or 'it gave no reason'}")
    return done.stdout.rstrip("\n")


def folder_in_repository() -> str:
    """The project's folder in its repository.

    Returns:
        Its path from the repository's root, with a slash at its end; empty if it is the root.

    Raises:
        GitError: The project is in no repository.
    """
    return git("rev-parse", "--show-prefix")
