"""The classes of TorchServe's that are written anew: what is meant to change in each, and nothing else."""

import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from serving import forms, grpc, launch
from serving.classes import UnknownClassError

JAR = launch._torchserve() / "ts/frontend/model-server.jar"


@pytest.mark.parametrize("module", [forms, grpc])
def test_its_changes_and_nothing_else_change(module: ModuleType, tmp_path: Path) -> None:
    module.write_class(JAR, tmp_path)
    with zipfile.ZipFile(JAR) as archive:
        original = archive.read(module.CLASS)
    changed = (tmp_path / module.CLASS).read_bytes()
    assert changed != original
    added = 0
    for old, new in module.CHANGES.items():
        assert original.count(old) == 1
        assert changed.count(new) == original.count(new) + 1
        added += len(new) - len(old)
    assert len(changed) == len(original) + added
    for old, new in module.CHANGES.items():
        original = original.replace(old, new)
    assert changed == original


@pytest.mark.parametrize("module", [forms, grpc])
def test_another_torchserve_is_refused(module: ModuleType, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.jar", "w") as jar:
        jar.writestr(module.CLASS, b"another")
    with pytest.raises(UnknownClassError, match="is not of TorchServe 0.12.0"):
        module.write_class(tmp_path / "other.jar", tmp_path)
