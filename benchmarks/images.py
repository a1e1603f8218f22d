"""Measures the images: sizes, the time to build all, and the time to build again after a change of one line.

Reads the sources; writes images and removes them. Their base is a copy of the base image with another id, so Docker's
cache holds none of their layers at the start.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.images.platforms import here
from pipeline.images.tag import NAMES
from pipeline.settings import load_project

_MEGABYTE = 1_000_000


def measure() -> list[tuple[str, str]]:
    """Build all images twice, then once more after a change of one line.

    Returns:
        Rows of a name and its figure.

    Raises:
        RuntimeError: steps/Dockerfile names no base image.
    """
    base = f"benchmark-base:{uuid.uuid4().hex}"
    real = re.search(r"^ARG BASE_IMAGE=(\S+)", (ROOT / "steps/Dockerfile").read_text(), re.MULTILINE)
    if real is None:
        raise RuntimeError("steps/Dockerfile names no base image")
    container = _docker("create", real[1], "true").strip()
    _docker("commit", "--change", f"LABEL benchmark={base}", container, base)
    _docker("rm", container)
    before, os.environ["BASE_IMAGE"] = os.environ.get("BASE_IMAGE"), base
    names = references(load_project(ROOT / "project.yaml"), here())
    changed = ""
    try:
        cold, built = _build(ROOT)
        there, nothing = _build(ROOT)
        sizes = {name: int(_docker("image", "inspect", "--format", "{{.Size}}", names[name])) for name in NAMES}
        unique, of_base = _bytes(*names.values()), _bytes(base)
        with tempfile.TemporaryDirectory() as folder:
            changed, one, seconds = _change_deploy(Path(folder))
    finally:
        _docker("rmi", "--force", *names.values(), *filter(None, [changed]), base)
        os.environ.pop("BASE_IMAGE")
        if before is not None:
            os.environ["BASE_IMAGE"] = before
    return [
        *((f"{name}, MB", f"{size / _MEGABYTE:.0f}") for name, size in sizes.items()),
        ("the sum of the eight, MB", f"{sum(sizes.values()) / _MEGABYTE:.0f}"),
        ("unique bytes of the eight, MB", f"{unique / _MEGABYTE:.0f}"),
        ("  of them the base image's, MB", f"{of_base / _MEGABYTE:.0f}"),
        (f"build all, nothing cached ({built} built), seconds", f"{cold:.1f}"),
        (f"build again, nothing changed ({nothing} built), seconds", f"{there:.1f}"),
        (f"build after a line in steps/deploy ({one} built), seconds", f"{seconds:.1f}"),
        ("  of building all", f"{seconds / cold:.1%}"),
    ]


def _change_deploy(tree: Path) -> tuple[str, int, float]:
    """Change one line of deploy and build: deploy's image, the number of images built, the seconds."""
    for folder in ("contract", "pipeline", "steps", "serving"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (".dockerignore", "project.yaml"):
        shutil.copy(ROOT / file, tree)
    with (tree / "steps/deploy/deploy.py").open("a") as source:
        source.write("# a line\n")
    seconds, built = _build(tree)
    code = "from pathlib import Path; from pipeline.images.build import references; "
    code += "from pipeline.settings import load_project"
    code += "; print(references(load_project(Path('project.yaml')))['deploy'])"
    image = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=True).stdout
    return image.strip(), built, seconds


def _build(tree: Path) -> tuple[float, int]:
    """The seconds of `python -m pipeline images` in a working tree, and the number of images built."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "pipeline", "images"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, len(re.findall(r" built *$", done.stdout, re.MULTILINE))


def _bytes(*images: str) -> int:
    """The bytes of the images' layers, a shared layer counted once."""
    total = 0
    with subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE) as process:  # noqa: S607
        while process.stdout and (piece := process.stdout.read(1 << 20)):
            total += len(piece)
    return total


def _docker(*words: str) -> str:
    return subprocess.run(["docker", *words], capture_output=True, text=True, check=True).stdout  # noqa: S607
