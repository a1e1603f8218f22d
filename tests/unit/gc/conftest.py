"""Volumes for the tests of gc: empty ones on one machine, where nothing waits for the disk."""

from pathlib import Path

import pytest

from contract import files
from steps.common import store


@pytest.fixture(autouse=True)
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty volumes; VOLUMES names them."""
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    for name in ("SERVING_NAMESPACE", "RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name in ("data", "model", "deploy-model/model-store"):
        (tmp_path / "volumes" / name).mkdir(parents=True)
    for module in (files, store):
        monkeypatch.setattr(module, "sync", lambda _: None)
    return tmp_path / "volumes"
