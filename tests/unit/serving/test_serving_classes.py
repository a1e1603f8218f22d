"""The classes of TorchServe's that are written anew: what is meant to change in each, and nothing else."""

import zipfile
from pathlib import Path

import pytest

from serving.torchserve import launch
from serving.torchserve.bad_requests import REQUEST_HANDLER
from serving.torchserve.batching import MODEL
from serving.torchserve.class_patch import ClassPatch, UnknownClassError, write_patched
from serving.torchserve.grpc import SERVICES

JAR = launch._torchserve() / "ts/frontend/model-server.jar"
each_class = pytest.mark.parametrize("of", [MODEL, REQUEST_HANDLER, SERVICES], ids=lambda of: Path(of.name).stem)


def before_and_after(of: ClassPatch, folder: Path) -> tuple[bytes, bytes]:
    write_patched(JAR, folder, [of])
    with zipfile.ZipFile(JAR) as archive:
        return archive.read(of.name), (folder / of.name).read_bytes()


@each_class
def test_its_changes_and_nothing_else_change(of: ClassPatch, tmp_path: Path) -> None:
    original, changed = before_and_after(of, tmp_path)
    assert changed != original
    added = 0
    for old, new in of.changes.items():
        assert original.count(old) == 1
        assert changed.count(new) == original.count(new) + 1
        added += len(new) - len(old)
    assert len(changed) == len(original) + added
    for old, new in of.changes.items():
        original = original.replace(old, new)
    assert changed == original


def test_one_comparison_is_changed_where_batches_are_made(tmp_path: Path) -> None:
    original, changed = before_and_after(MODEL, tmp_path)
    [place] = [i for i, (a, b) in enumerate(zip(original, changed, strict=True)) if a != b]
    assert (original[place], changed[place]) == (0x9D, 0x9C), "ifgt becomes ifge"


@each_class
def test_another_torchserve_is_not_changed(of: ClassPatch, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.jar", "w") as jar:
        jar.writestr(of.name, b"another class")
    with pytest.raises(UnknownClassError, match="other.jar is not of TorchServe 0.12.0"):
        write_patched(tmp_path / "other.jar", tmp_path, [of])
