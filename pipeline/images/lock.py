"""Resolves every `requirements.in` into the `requirements.txt` beside it: a package has one version everywhere."""

import subprocess
import sys
from pathlib import Path

from contract.errors import ProjectError
from contract.paths import ROOT
from steps.registry import STEP_NAMES

_UV = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--fork-strategy=fewest"]
_UV += ["--python-version=3.11", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
EVERYTHING = "requirements.txt"
CUDA = Path("steps/torch-cuda.txt")  # torch's CUDA build
EXCLUDED = "steps/excluded.txt"
KFP = Path("steps/common/kfp.txt")  # without its dependencies: starting a step in its container needs none


class LockError(ProjectError):
    """The packages of a `requirements.in` have no common versions, or cannot be found."""


def locks() -> list[Path]:
    """The locks.

    Returns:
        The paths, relative to the root; the first has every version that the others take.
    """
    folders = ["serving", "pipeline/images", "steps/common", *(f"steps/{step}" for step in STEP_NAMES)]
    torch = [Path("steps/torch-dependencies.txt"), CUDA]
    return [Path(EVERYTHING), *(Path(folder, EVERYTHING) for folder in folders), *torch, KFP]


def lock() -> None:
    """Write every lock.

    Raises:
        LockError: A package cannot be resolved, for the reason that uv has printed.
    """
    for path in locks():
        pinned = [] if path == Path(EVERYTHING) else ["--constraints", EVERYTHING]
        dependencies = ["--no-deps"] if path == KFP else []
        excluded = [] if path == CUDA else ["--excludes", EXCLUDED]
        source = path.with_suffix(".in")
        command = [*_UV, *pinned, *excluded, *dependencies, "--output-file", str(path), str(source)]
        if status := subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise LockError(f"{source} cannot be resolved (uv ended with status {status}): see its message above")
        print(f"{path}: locked")
