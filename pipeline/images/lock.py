"""Resolves every `requirements.in` into the `requirements.txt` beside it: one version of a package everywhere."""

import subprocess
import sys
from pathlib import Path

from contract.paths import ROOT
from steps.registry import STEP_NAMES

_UV = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--fork-strategy=fewest"]
_UV += ["--python-version=3.11", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
EVERYTHING = "requirements.txt"
KFP = Path("steps/common/kfp.txt")  # comes without its dependencies: starting a step in its container needs none


def locks() -> list[Path]:
    """The locks, relative to the root; the first holds every version that the others take."""
    folders = ["serving", "steps/common", *(f"steps/{step}" for step in STEP_NAMES)]
    torch = [Path("steps/torch-dependencies.txt"), Path("steps/torch-cuda.txt")]
    return [Path(EVERYTHING), *(Path(folder, EVERYTHING) for folder in folders), *torch, KFP]


def lock() -> None:
    """Write every lock; raises CalledProcessError if something cannot be resolved, which uv has then explained."""
    for path in locks():
        pinned = [] if path == Path(EVERYTHING) else ["--constraints", EVERYTHING]
        alone = ["--no-deps"] if path == KFP else []
        source = path.with_suffix(".in")
        subprocess.run([*_UV, *pinned, *alone, "--output-file", str(path), str(source)], cwd=ROOT, check=True)
        print(f"{path}: locked")
