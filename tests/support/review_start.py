"""Volumes in which a model is served, without a run; and `make review` in a process of its own."""

import shutil
from pathlib import Path

from contract.pointer import MODEL_STORE, Pointer, as_file, pointer_path


def deployed(volumes: Path, mar: Path, version: str) -> None:
    """Let the pointer name this archive."""
    store = volumes / "deploy-model" / MODEL_STORE
    store.mkdir(parents=True, exist_ok=True)
    shutil.copy(mar, store / mar.name)
    pointer = Pointer(name="quarters", version=version, mar=mar.name, network="n", index="i")
    pointer_path(volumes / "deploy-model").write_bytes(as_file(pointer))
