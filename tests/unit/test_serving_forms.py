"""The class that answers malformed requests: one of TorchServe's, and three places in it changed."""

import importlib.util
import zipfile
from pathlib import Path

import pytest

from serving import forms
from serving.batching import UnknownClassError

[TS] = (importlib.util.find_spec("ts") or pytest.fail("TorchServe is not installed")).submodule_search_locations or []
JAR = Path(TS, "frontend", "model-server.jar")


def test_two_caught_classes_and_a_handler_change_and_nothing_else(tmp_path: Path) -> None:
    forms.write_class(JAR, tmp_path)
    with zipfile.ZipFile(JAR) as archive:
        original = archive.read(forms.CLASS)
    changed = (tmp_path / forms.CLASS).read_bytes()
    texts = [(forms._constant(unused), forms._constant(wanted)) for unused, wanted in forms._CHANGED.items()]
    for old, new in [*texts, (forms._IS_LATE, forms._IS_BAD)]:
        assert (original.count(old), changed.count(new)) == (1, 1)
        changed = changed.replace(new, old)
    assert changed == original


def test_another_torchserve_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.jar", "w") as jar:
        jar.writestr(forms.CLASS, b"another")
    with pytest.raises(UnknownClassError, match="is not of TorchServe 0.12.0"):
        forms.write_class(tmp_path / "other.jar", tmp_path)
