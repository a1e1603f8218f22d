"""The patches of TorchServe's classes: each changes the intended bytes and nothing else."""

import zipfile
from pathlib import Path

import pytest

from serving.torchserve import launch
from serving.torchserve.bad_requests import REQUEST_HANDLER
from serving.torchserve.batching import MODEL
from serving.torchserve.class_patch import ClassPatch, UnknownClassError, write_patched
from serving.torchserve.grpc import SERVICES

JAR = launch._torchserve() / "ts/frontend/model-server.jar"
each_class = pytest.mark.parametrize(
    "patch", [MODEL, REQUEST_HANDLER, SERVICES], ids=lambda patch: Path(patch.name).stem
)


def before_and_after(patch: ClassPatch, folder: Path) -> tuple[bytes, bytes]:
    write_patched(JAR, folder, [patch])
    with zipfile.ZipFile(JAR) as archive:
        return archive.read(patch.name), (folder / patch.name).read_bytes()


@each_class
def test_a_patch_makes_its_changes_and_no_other(patch: ClassPatch, tmp_path: Path) -> None:
    original, changed = before_and_after(patch, tmp_path)
    assert changed != original
    added = 0
    for old, new in patch.changes.items():
        assert original.count(old) == 1
        assert changed.count(new) == original.count(new) + 1
        added += len(new) - len(old)
    assert len(changed) == len(original) + added
    for old, new in patch.changes.items():
        original = original.replace(old, new)
    assert changed == original


def test_the_batching_patch_changes_one_comparison(tmp_path: Path) -> None:
    original, changed = before_and_after(MODEL, tmp_path)
    [place] = [i for i, (a, b) in enumerate(zip(original, changed, strict=True)) if a != b]
    assert (original[place], changed[place]) == (0x9D, 0x9C), "ifgt becomes ifge"


@each_class
def test_another_version_of_torchserve_is_refused(patch: ClassPatch, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.jar", "w") as jar:
        jar.writestr(patch.name, b"another class")
    with pytest.raises(UnknownClassError, match="other.jar is not of TorchServe 0.12.0"):
        write_patched(tmp_path / "other.jar", tmp_path, [patch])
