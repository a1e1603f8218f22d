"""Resolves every `requirements.in` into the `requirements.txt` beside it: one version of a package everywhere."""

import subprocess
import sys
from pathlib import Path

from steps.common.digest import ROOT, STEPS

_UV = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--fork-strategy=fewest"]
_UV += ["--python-version=3.11", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate"]
EVERYTHING = "requirements.txt"


def locks() -> list[Path]:
    """The locks, relative to the root; the first holds every version that the others take."""
    return [Path(EVERYTHING), Path("serving", EVERYTHING), *(Path("steps", step, EVERYTHING) for step in STEPS)]


def lock() -> None:
    """Write every lock; raises CalledProcessError if something cannot be resolved, which uv has then explained."""
    for path in locks():
        pinned = [] if path == Path(EVERYTHING) else ["--constraints", EVERYTHING]
        source = path.with_suffix(".in")
        subprocess.run([*_UV, *pinned, "--output-file", str(path), str(source)], cwd=ROOT, check=True)
        print(f"{path}: locked")
