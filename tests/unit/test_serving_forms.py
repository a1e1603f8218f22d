"""The class that answers malformed forms: one of TorchServe's, and two places in it changed."""

import importlib.util
import zipfile
from pathlib import Path

import pytest

from serving import forms
from serving.batching import UnknownClassError

[TS] = (importlib.util.find_spec("ts") or pytest.fail("TorchServe is not installed")).submodule_search_locations or []
JAR = Path(TS, "frontend", "model-server.jar")


def test_one_caught_class_and_its_handler_change_and_nothing_else(tmp_path: Path) -> None:
    forms.write_class(JAR, tmp_path)
    with zipfile.ZipFile(JAR) as archive:
        original = archive.read(forms.CLASS)
    changed = (tmp_path / forms.CLASS).read_bytes()
    at, table = original.index(forms._UNUSED), original.index(forms._IS_MISSING)
    rest = at + len(forms._UNUSED)
    assert changed[: at - 2] == original[: at - 2]
    assert changed[at : at + len(forms._WANTED)] == forms._WANTED
    assert original.count(forms._IS_MISSING) == 1
    after = original[rest:table] + forms._IS_BAD + original[table + len(forms._IS_BAD) :]
    assert changed[at + len(forms._WANTED) :] == after


def test_another_torchserve_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.jar", "w") as jar:
        jar.writestr(forms.CLASS, b"another")
    with pytest.raises(UnknownClassError, match="is not of TorchServe 0.12.0"):
        forms.write_class(tmp_path / "other.jar", tmp_path)
