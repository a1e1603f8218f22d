"""What a source file says is kept beside its byte code, and read from there while its bytes are the same."""

import json
import os
import sys
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from steps.common.code import source
from steps.common.code.source import read_source


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "module.py"
    path.write_text('"""Prose."""\nimport a.b\nfrom .c import d, e\nNAME = "file.yaml"\n')
    source._parsed.cache_clear()
    return path


def kept(file: Path) -> Path:
    return Path(cache_from_source(str(file))).with_suffix(".json")


def no_parser(*_: object) -> None:
    raise AssertionError("it was parsed")


def test_what_it_says(file: Path) -> None:
    said = read_source(file)
    assert said.imports == [(0, "a.b", []), (1, "c", ["d", "e"])]
    assert said.strings == ["Prose.", "file.yaml"]


def test_the_second_read_parses_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = read_source(file)
    monkeypatch.setattr(source, "_parsed", no_parser)
    assert read_source(file) == said


def test_other_bytes_of_the_same_size_and_times_are_read(file: Path) -> None:
    said, before = read_source(file), file.stat()
    file.write_text(file.read_text().replace("NAME", "FILE"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read_source(file).form != said.form


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b'{"key": 1}', b"\xff"])
def test_what_is_damaged_is_made_anew(file: Path, damage: bytes) -> None:
    said = read_source(file)
    kept(file).write_bytes(damage)
    assert read_source(file) == said
    assert json.loads(kept(file).read_bytes())["form"] == said.form


def test_what_an_older_reader_kept_is_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_source(file)
    monkeypatch.setattr(source, "_reader", lambda: "another")
    monkeypatch.setattr(source, "_parsed", no_parser)
    with pytest.raises(AssertionError, match="it was parsed"):
        read_source(file)


def test_where_nothing_can_be_written_it_is_parsed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.with_name("__pycache__").write_text("no folder")
    assert read_source(file).strings == ["Prose.", "file.yaml"]
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file.with_name("__pycache__").unlink()
    assert read_source(file).strings == ["Prose.", "file.yaml"]
    assert not kept(file).exists()
