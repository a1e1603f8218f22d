"""The tags of the images: reads all that goes into an image, and the environment that its build takes; writes nothing.

An image's tag is the digest of its sources, its Dockerfile and its build arguments. So an image that exists is the
right one and is never built again, on any machine.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from contract.paths import ROOT
from pipeline.settings import SettingsError
from steps.common.digest import digest, file_sha256
from steps.registry import STEPS, TASKS, TORCH
from steps.torch_build import BUILDS

SERVING = "serving"
# In the order of building: some steps' images are built on that of serving.
NAMES = (
    *(step.name for step in STEPS if not step.on_serving),
    SERVING,
    *(step.name for step in STEPS if step.on_serving),
)

_SERVING = ("contract", "serving", *TORCH)
_STEP = ("contract", "steps/__init__.py", "steps/common")


def dockerfile(name: str) -> str:
    """The Dockerfile of an image, relative to the root."""
    return "serving/Dockerfile" if name == SERVING else "steps/Dockerfile"


def sources(name: str) -> tuple[str, ...]:
    """What the Dockerfile copies into an image.

    Args:
        name: A step, or `serving`.

    Returns:
        Files and folders, relative to the root.

    Raises:
        ValueError: There is no image of this name.
    """
    if name not in NAMES:
        raise ValueError(f"no image is called {name!r}; the images are {', '.join(NAMES)}")
    if name == SERVING:
        return _SERVING
    step = TASKS[name]
    return (*_STEP, f"steps/{name}", *step.sources, *(_SERVING if step.on_serving else ()))


def source_files(paths: Iterable[str], root: Path = ROOT) -> Iterator[Path]:
    """Every file below `paths` that an image holds: neither hidden files nor byte code."""
    for path in paths:
        top = root / path
        if top.is_file():
            yield top
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
            for name in files:
                if not name.startswith(".") and not name.endswith(".pyc") and (file := Path(folder, name)).is_file():
                    yield file


def build_arguments(name: str) -> dict[str, str]:
    """The build arguments of an image, where the environment differs from the Dockerfiles.

    Args:
        name: A step, or `serving`.

    Returns:
        Values of `BASE_IMAGE` and `TORCH`, without those that are as in the Dockerfiles.

    Raises:
        SettingsError: TORCH is neither auto, cpu nor cuda.
    """
    torch = os.environ.get("TORCH") or "auto"
    if torch not in ("auto", *BUILDS):
        raise SettingsError(f"TORCH: is {torch!r}; it must be auto, {' or '.join(BUILDS)}")
    chosen = {"BASE_IMAGE": os.environ.get("BASE_IMAGE", "")}
    # auto is the CPU build in images: they are for other machines than this, whose GPU it would look for.
    if torch == "cuda" and "steps/torch.txt" in sources(name):
        chosen["TORCH"] = torch
    return {key: value for key, value in chosen.items() if value}


def tag(name: str, root: Path = ROOT) -> str:
    """Digest of all that goes into an image; the order of its files and their modes do not count."""
    files = set(source_files((*sources(name), dockerfile(name)), root))
    held = {file.relative_to(root).as_posix(): file_sha256(file) for file in files}
    return digest({"sources": held, "arguments": build_arguments(name)})
