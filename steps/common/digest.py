"""What a step is made of, as a digest: reads source files, writes nothing.

The same files give the same digest in a working tree and in an image, where they lie in the same places.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from contract.paths import ROOT

STEPS = ("preprocess", "validate", "train", "embed", "index", "analyse", "deploy")
DIGEST_LENGTH = 16  # hexadecimal digits, 64 bits

_TORCH = ("steps/torch.txt", "steps/torch-cuda.txt", "steps/torch-dependencies.txt")
_SERVING = ("contract", "serving", *_TORCH)
_STEP_SOURCES = ("contract", "steps/__init__.py", "steps/common", "steps/Dockerfile")
_EXTRA = {"validate": ("steps/report",), "train": _TORCH, "embed": _TORCH, "analyse": _TORCH, "deploy": _SERVING}


def sources(name: str) -> tuple[str, ...]:
    """Paths, relative to the root, that go into the image `name`: a step, or `serving`."""
    if name == "serving":
        return _SERVING
    if name not in STEPS:
        raise ValueError(f"no step is called {name!r}; the steps are {', '.join(STEPS)}")
    return (*_STEP_SOURCES, f"steps/{name}", *_EXTRA.get(name, ()))


def source_files(paths: Iterable[str], root: Path = ROOT) -> Iterator[Path]:
    """Every file below `paths` that counts: hidden files and byte code do not."""
    for path in paths:
        top = root / path
        for file in [top] if top.is_file() else top.rglob("*"):
            parts = file.relative_to(root).parts
            hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
            if file.is_file() and not hidden and file.suffix != ".pyc":
                yield file


def step_digest(name: str, root: Path = ROOT) -> str:
    """Digest of the names and contents of an image's sources; order and file modes do not count."""
    files = {file.relative_to(root).as_posix(): file for file in source_files(sources(name), root)}
    return digest({path: file_sha256(file) for path, file in files.items()})


@cache
def running_step_digest(name: str) -> str:
    """The digest of a step as it lies beside this very file: computed once a process."""
    return step_digest(name)


def digest(value: Any) -> str:
    """Digest of a JSON value; the order of keys does not count."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_LENGTH]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
