"""`python -m serving start` and a running server with a broken pointer or archive: never ready with a wrong model."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.serving_start import ONE, TWO, Start, Volumes, deployed, write_version

BAD = "9999dddd"


def truncated(volumes: Volumes) -> None:
    volumes.add(BAD)
    volumes.point(BAD)
    mar = volumes.mar(BAD)
    mar.write_bytes(mar.read_bytes()[: mar.stat().st_size // 2])


def truncated_before_it_was_deployed(volumes: Volumes) -> None:
    truncated(volumes)
    volumes.point(BAD)


def broken_handler(volumes: Volumes) -> None:
    folder = write_version(volumes.root / "files", BAD)
    (folder / "handler.py").write_text("raise ImportError('libnothing.so.1 is missing')\n")
    volumes.add(BAD, folder)
    volumes.point(BAD)


def broken_network(volumes: Volumes) -> None:
    folder = write_version(volumes.root / "files", BAD)
    (folder / "network.onnx").write_bytes(b"no network")
    volumes.add(BAD, folder)
    volumes.point(BAD)


def wrong_model(volumes: Volumes) -> None:
    """An archive whose golden predictions do not match its model."""
    folder = write_version(volumes.root / "files", BAD)
    golden = json.loads((folder / "golden.json").read_text())
    golden[0]["label"] = golden[1]["label"]
    (folder / "golden.json").write_text(json.dumps(golden))
    volumes.add(BAD, folder)
    volumes.point(BAD)


def another_version(volumes: Volumes) -> None:
    """An archive of another version than the pointer names."""
    volumes.add(BAD, write_version(volumes.root / "files", TWO))
    volumes.point(BAD)


def missing_archive(volumes: Volumes) -> None:
    volumes.point(BAD)


def no_pointer(volumes: Volumes) -> None:
    (volumes.volume / "current.json").unlink(missing_ok=True)


def half_a_pointer(volumes: Volumes) -> None:
    volumes.write_pointer('{"name": "quar')


def pointer_outside(volumes: Volumes) -> None:
    volumes.write_pointer(json.dumps({"name": "n", "version": BAD, "mar": "../../x.mar", "sha256": "0"}))


# With the exit status and the message of `start`.
BROKEN: dict[Callable[[Volumes], None], tuple[int, str]] = {
    truncated: (2, f"{BAD}.mar has SHA-256 "),
    truncated_before_it_was_deployed: (1, f"{BAD}.mar is no archive of this project (BadZipFile("),
    broken_handler: (1, f"{BAD}.mar does not load; the end of its log, "),
    broken_network: (1, f"{BAD}.mar does not load; the end of its log, "),
    wrong_model: (1, f"version {BAD} found '{BAD} upper right'"),
    another_version: (1, f"{BAD}.mar is of version {TWO}, and not of {BAD}: run make run"),
    missing_archive: (2, f"{BAD}.mar, which cannot be read (No such file or directory): restore it"),
    no_pointer: (2, "nothing is deployed yet, "),
    half_a_pointer: (2, "current.json is damaged (JSONDecodeError("),
    pointer_outside: (2, "current.json is damaged, mar is '../../x.mar' and not letters, digits"),
}


@pytest.mark.slow
@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_start_ends_with_the_reason_and_is_never_ready(breaks: Callable[[Volumes], None], tmp_path: Path) -> None:
    volumes = Volumes(tmp_path / "volumes")
    breaks(volumes)
    with Start(volumes.root, tmp_path) as start:
        status = start.until_ended()
        print(start.errors().splitlines()[0])
        wanted, words = BROKEN[breaks]
        assert status == wanted
        assert start.errors().startswith("error: ")
        assert words in start.errors().splitlines()[0]
        assert breaks is not broken_network or "network.onnx failed" in start.errors()
        assert "Traceback" not in start.errors().split("the end of its log")[0]
        assert "ready" not in start.output()
        assert start.probe() == 1
        assert list(start.temporary.iterdir()) == []


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Start, Volumes]]:
    volumes = deployed(tmp_path_factory.mktemp("volumes"))
    with Start(volumes.root, tmp_path_factory.mktemp("server")) as start:
        yield start.until_ready(), volumes


@pytest.mark.slow
@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_running_server_keeps_its_version_and_reports_the_reason(
    breaks: Callable[[Volumes], None], following: tuple[Start, Volumes]
) -> None:
    start, volumes = following
    workers = [each.pid for each in start.workers()]
    said = len(start.errors())
    shutil.rmtree(volumes.root / "files", ignore_errors=True)
    volumes.mar(BAD).unlink(missing_ok=True)
    breaks(volumes)
    try:
        start.until(lambda: f"; {ONE} is still served" in start.errors()[said:])
        complaint = start.errors()[said:]
        print(complaint.splitlines()[0])
        assert BROKEN[breaks][1].partition("; the end")[0] in complaint
        assert complaint.startswith("error: ")
        assert start.serves(ONE)
        assert start.probe() == 0
        assert [each.pid for each in start.workers()] == workers
        logged = [
            line["message"] for line in start.logged() if line["level"] == "ERROR" and line["logger"] == "serving"
        ]
        assert logged[-1].strip() == complaint.strip()
        time.sleep(2.5)
        assert complaint == start.errors()[said:], "it is reported once"
    finally:
        volumes.point(ONE)


@pytest.mark.slow
def test_a_good_version_is_switched_to_afterwards(following: tuple[Start, Volumes]) -> None:
    start, volumes = following
    volumes.add(TWO)
    volumes.point(TWO)
    start.until(lambda: f"switched from {ONE} to {TWO}" in start.output())
    assert start.serves(TWO)
