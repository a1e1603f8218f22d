"""A broken pointer or archive: a start ends with the reason; a running server reports it once and keeps its version."""

import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from serving.__main__ import main
from serving.follow import Follower
from serving.golden import Golden, GoldenError, Item
from serving.log import Log
from serving.pointer import PointerError, check_archive, read_pointer
from serving.server import Server

OLD, NEW = "1111aaaa", "2222bbbb"


def add(volume: Path, name: str, **changes: Any) -> Path:
    """Write an archive with one golden prediction; `changes` to its version, label or distance."""
    mar = volume / "model-store" / f"{name}.mar"
    mar.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": name, "image": "", "expected": "7", "label": "7", "distance": 0.1} | changes
    with zipfile.ZipFile(mar, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.json", json.dumps({"version": content.pop("version")}))
        archive.writestr("golden.json", json.dumps([content]))
    return mar


def point(volume: Path, archive: str, **changes: str) -> None:
    sha256 = hashlib.sha256((volume / "model-store" / f"{archive}.mar").read_bytes()).hexdigest()
    pointer = {"name": "digits", "version": archive, "mar": f"{archive}.mar", "sha256": sha256}
    (volume / "current.json").write_text(json.dumps(pointer | changes))


def long_name(volume: Path) -> None:
    point(volume, OLD, version=NEW, mar="m" * 300)


def deep_pointer(volume: Path) -> None:
    (volume / "current.json").write_text("[" * 200_000)


def corrupt_stream(volume: Path) -> None:
    mar = add(volume, NEW)
    content = bytearray(mar.read_bytes())
    begin = content.index(b"model.json") + len(b"model.json")
    content[begin : begin + 4] = b"\xff" * 4
    mar.write_bytes(content)
    point(volume, NEW)


def encrypted(volume: Path) -> None:
    mar = add(volume, NEW)
    content = bytearray(mar.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    mar.write_bytes(content)
    point(volume, NEW)


def of_wrong_type(**changes: Any) -> Callable[[Path], None]:
    def breaks(volume: Path) -> None:
        add(volume, NEW, **changes)
        point(volume, NEW)

    return breaks


# With the exit status and the message of `start`.
BROKEN: dict[str, tuple[Callable[[Path], None], int, str]] = {
    "a long name": (long_name, 2, "mmm, which cannot be read (File name too long): restore it"),
    "a deep pointer": (deep_pointer, 2, "current.json is damaged (RecursionError("),
    "a corrupt stream": (corrupt_stream, 1, f"{NEW}.mar is no archive of this project (error('Error -3 while"),
    "an encrypted member": (encrypted, 1, f"{NEW}.mar is no archive of this project (RuntimeError("),
    "a version": (of_wrong_type(version=5), 1, "(TypeError('version is 5')): build it with make run"),
    "a label": (of_wrong_type(label=7), 1, "(TypeError('label is 7')): build it with make run"),
    "a distance": (of_wrong_type(distance="0"), 1, "(TypeError(\"distance is '0'\")): build it with make run"),
}


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A deploy volume whose pointer names the old version."""
    volume = tmp_path / "deploy-model"
    add(volume, OLD)
    point(volume, OLD)
    return volume


@pytest.fixture
def server(volume: Path) -> Server:
    """A server of the old version, not started: it need not run to refuse another version."""
    return Server(volume / "model-store" / f"{OLD}.mar", "digits", log=Log(volume.with_name("log")))


@pytest.fixture
def follower(server: Server, volume: Path) -> Follower:
    return Follower(server, volume, server.log, server.monitor)


@pytest.mark.parametrize("broken", BROKEN)
def test_start_ends_with_the_reason(
    broken: str, volume: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    breaks, status, words = BROKEN[broken]
    breaks(volume)
    monkeypatch.setattr(sys, "argv", ["serving", "start", "--volumes", str(volume.parent)])
    assert main() == status
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert words in error


@pytest.mark.parametrize("broken", BROKEN)
def test_a_running_server_reports_the_reason_once_and_keeps_its_version(
    broken: str, follower: Follower, volume: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    breaks, _, words = BROKEN[broken]
    breaks(volume)
    for _ in range(3):
        follower.poll()
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.endswith(f"; {OLD} is still served\n")
    assert error.count("error: ") == 1


def test_an_unexpected_error_does_not_end_the_server(
    follower: Follower,
    server: Server,
    volume: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def switch(mar: Path, version: str) -> None:
        asked.append((mar, version))
        raise LookupError("a surprise")

    monkeypatch.setattr(server, "switch", switch)
    mar = add(volume, NEW)
    point(volume, NEW)
    for _ in range(3):
        follower.poll()
    assert capfd.readouterr().err == f"error: LookupError('a surprise'); {OLD} is still served\n"
    assert asked == [(mar, NEW)], "the next try is after a minute"


def test_the_same_error_is_reported_again_after_a_recovery(
    follower: Follower, volume: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for breaks in (deep_pointer, of_wrong_type(version=5)):
        told = []
        for _ in range(2):
            breaks(volume)
            follower.poll()
            follower.poll()
            told.append(capfd.readouterr().err)
            point(volume, OLD)
            follower.poll()
            assert capfd.readouterr().err == ""
        assert told[0].count("error: ") == 1
        assert told[0] == told[1]


@contextmanager
def closed(folder: Path) -> Iterator[None]:
    """A folder without permissions, and an effective user other than root, who could still read it."""
    user, mode = os.geteuid(), folder.stat().st_mode
    folder.chmod(0)
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(mode)


@pytest.mark.parametrize(
    ("name", "version", "words"),
    [
        ("model-store", "", rf"{OLD}.mar, which cannot be read \(Permission denied\): .*let this user read it"),
        ("versions", OLD, rf"versions/{OLD}.json cannot be read \(Permission denied\): let this user read it"),
        (".", "", r"current.json cannot be read \(Permission denied\): let this user read it"),
    ],
)
def test_an_unreadable_folder_is_named(name: str, version: str, words: str) -> None:
    with TemporaryDirectory() as folder:  # other users may not read the parent of tmp_path
        volume = Path(folder)
        volume.chmod(0o755)
        add(volume, OLD)
        point(volume, OLD)
        (volume / "versions").mkdir()
        (volume / "versions" / f"{OLD}.json").write_text((volume / "current.json").read_text())
        with closed(volume / name), pytest.raises(PointerError, match=words):
            check_archive(read_pointer(volume, version))


@pytest.mark.parametrize(
    ("golden", "answered", "right"),
    [(0.25, 0.25005, True), (0.25, 0.26, False), (0.25, None, False), (None, None, True), (None, 0.3, True)],
)
def test_the_distance_of_features_is_compared_unless_the_archive_is_an_older_one(
    golden: float | None, answered: float | None, right: bool
) -> None:
    item = Item(b"", "7", "7", 0.1, golden)
    answer = {"label": "7", "distance": 0.1, "features_distance": answered, "model": {"version": "1"}}
    if right:
        Golden("1", (item,)).compare(item, 200, answer)
    else:
        with pytest.raises(GoldenError, match="by features 0.25"):
            Golden("1", (item,)).compare(item, 200, answer)
