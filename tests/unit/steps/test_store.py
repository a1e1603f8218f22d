"""The content-addressed store: what is there is complete, whatever was killed, full, forbidden or at work twice."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contract.events import Waiting, parse
from contract.paths import ROOT
from steps.common import store
from steps.common.code.deciding import Code
from steps.common.errors import StepError
from steps.common.store import find, produce, read


def build_hello(folder: Path) -> dict[str, Any]:
    (folder / "hello.txt").write_text("hello")
    return {"words": 1}


def make(volume: Path, build: Any = build_hello, parameters: Mapping[str, Any] | None = None) -> store.Artefact:
    return produce(volume, "kind", "index", parameters=parameters or {}, inputs={"in": "1"}, build=build)


def test_an_artefact_is_built_once(tmp_path: Path) -> None:
    first = make(tmp_path)
    second = make(tmp_path, build=lambda _: pytest.fail("built again"))
    assert (first.unchanged, second.unchanged) == (False, True)
    assert first.path == second.path
    assert second.facts == {"words": 1}
    assert second.manifest["files"]["hello.txt"]["bytes"] == 5
    assert len(second.manifest["files"]["hello.txt"]["sha256"]) == 64


def test_an_id_follows_from_step_parameters_and_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {
        store.artefact_id("index", {"a": 1}, {"in": "1"}),
        store.artefact_id("index", {"a": 2}, {"in": "1"}),
        store.artefact_id("index", {"a": 1}, {"in": "2"}),
        store.artefact_id("embed", {"a": 1}, {"in": "1"}),
    }
    ids.add(store.artefact_id("index", {"a": 1}, {"in": "1"}, ["steps.index.index", "steps.common.images.decode"]))
    for other in (Code("edited", {"faiss": "1"}), Code("edited", {"faiss": "2"})):
        monkeypatch.setattr(store, "deciding_code", lambda *_, other=other: other)
        ids.add(store.artefact_id("index", {"a": 1}, {"in": "1"}))
    assert len(ids) == 7


def test_the_order_of_parameters_does_not_count() -> None:
    assert store.artefact_id("index", {"a": 1, "b": 2}, {}) == store.artefact_id("index", {"b": 2, "a": 1}, {})


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("half")
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        make(tmp_path, build=fail)
    assert list((tmp_path / "kind").iterdir()) == []


def test_a_killed_build_is_never_read_and_the_next_one_clears_it_away(tmp_path: Path) -> None:
    def killed() -> None:
        def build(folder: Path) -> dict[str, Any]:
            (folder / "hello.txt").write_text("hel")
            os.kill(os.getpid(), signal.SIGKILL)
            return {}

        make(tmp_path, build=build)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    id = store.artefact_id("index", {}, {"in": "1"})
    assert find(tmp_path, "kind", id) is None
    made = make(tmp_path)
    assert (made.path / "hello.txt").read_text() == "hello"
    assert [path.name for path in (tmp_path / "kind").iterdir()] == [id]


def test_two_builders_at_once_build_once(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        with (tmp_path / "built").open("a") as log:
            log.write("x")
        time.sleep(0.3)
        return build_hello(folder)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=make, args=(tmp_path, build)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "built").read_text() == "x"
    assert read(tmp_path, "kind", store.artefact_id("index", {}, {"in": "1"})).facts == {"words": 1}


def test_a_third_run_leaves_alone_what_the_second_builds_after_the_first_failed(tmp_path: Path) -> None:
    """The first removes its lock while the second waits for it; the third must wait for the second all the same."""
    seconds = {"first": 0.3, "second": 0.8, "third": 0.0}

    def build(name: str, folder: Path) -> dict[str, Any]:
        facts = build_hello(folder)
        time.sleep(seconds[name])
        if name == "first":
            raise RuntimeError("broken")
        assert (folder / "hello.txt").exists(), "somebody removed it"
        (tmp_path / "built").write_text(name)
        return facts

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=make, args=(tmp_path, partial(build, name))) for name in seconds]
    for process, pause in zip(processes, (0.1, 0.5, 0), strict=True):
        process.start()
        time.sleep(pause)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [1, 0, 0]
    assert (tmp_path / "built").read_text() == "second"


def test_without_locks_two_builders_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)

    def overtaken(folder: Path) -> dict[str, Any]:
        make(tmp_path)
        return build_hello(folder)

    made = make(tmp_path, build=overtaken)
    assert (made.path / "hello.txt").read_text() == "hello"
    assert len(list((tmp_path / "kind").iterdir())) == 1


def test_whoever_waits_says_so_and_no_lock_stays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def build(folder: Path) -> dict[str, Any]:
        (tmp_path / "begun").touch()
        time.sleep(0.5)
        return build_hello(folder)

    process = multiprocessing.get_context("fork").Process(target=make, args=(tmp_path, build))
    process.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    made = make(tmp_path, build=lambda _: pytest.fail("built again"))
    process.join()
    assert parse(capfd.readouterr().out) == Waiting(f"another run is making kind {made.id}")
    assert [path.name for path in (tmp_path / "kind").iterdir()] == [made.id]


def test_manifests_of_an_earlier_version_are_read_and_told_from_those_of_this_one(tmp_path: Path) -> None:
    assert not store.holds_only_older(tmp_path, "kind")
    old = tmp_path / "kind" / "0123456789abcdef"
    old.mkdir(parents=True)
    manifest = {"step": "index", "step_digest": "1", "parameters": {}, "inputs": {}, "facts": {}, "files": {}}
    (old / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "kind" / "damaged").mkdir()
    (tmp_path / "kind" / "damaged" / "manifest.json").write_text("[]")
    assert read(tmp_path, "kind", old.name).manifest["step_digest"] == "1"
    assert store.holds_only_older(tmp_path, "kind")
    assert make(tmp_path).manifest["format"] == store.FORMAT
    assert not store.holds_only_older(tmp_path, "kind")


def test_a_changed_file_is_refused_by_name(tmp_path: Path) -> None:
    made = make(tmp_path)
    (made.path / "hello.txt").write_text("jello")
    with pytest.raises(StepError, match=r"hello\.txt was changed after it was made: delete"):
        read(tmp_path, "kind", made.id)


def test_a_truncated_file_is_made_anew(tmp_path: Path) -> None:
    made = make(tmp_path)
    (made.path / "hello.txt").write_text("hel")
    with pytest.raises(StepError, match="missing or incomplete"):
        read(tmp_path, "kind", made.id)
    again = make(tmp_path)
    assert not again.unchanged
    assert (again.path / "hello.txt").read_text() == "hello"


def test_a_volume_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "volume").write_text("")
    with pytest.raises(StepError, match=f"cannot write {tmp_path}/volume/kind as uid .* choose another volume"):
        make(tmp_path / "volume")


# A mount namespace of its own lets a test have a full or read-only disk without harming the machine's.
MOUNTED = """
import io
import sys
from pathlib import Path
from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.store import produce

def build(folder):
    with (folder / "big").open("wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 16))
    return {}

def write():
    produce(Path(sys.argv[1]), "kind", "index", parameters={}, inputs={}, build=build)

def replace():
    write_atomically(Path(sys.argv[1], "current.json"), io.BytesIO(bytes(1 << 22)))

try:
    {"write": write, "replace": replace}[sys.argv[2]]()
except StepError as error:
    print(error)
print(sorted(path.name for path in Path(sys.argv[1]).rglob("*") if path.is_file() and path.name != ".usage.lock"))
"""


def run_on_mount(folder: Path, options: str, action: str) -> str:
    folder.mkdir()
    script = (
        f"mount -t tmpfs -o size=8m tmpfs {folder} && echo old > {folder}/current.json && mount -o remount,{options} "
    )
    script += f'{folder} && exec "$0" -c "$1" {folder} {action}'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, sys.executable, MOUNTED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine has no mount namespaces for users: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
@pytest.mark.parametrize("action", ["write", "replace"])
def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path, action: str) -> None:
    output = run_on_mount(tmp_path / "volume", "size=1m", action)
    assert f"no space left on the volume of {tmp_path}/volume" in output
    assert "free some space" in output
    assert "['current.json']" in output


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
@pytest.mark.parametrize("action", ["write", "replace"])
def test_an_unwritable_volume_is_named(tmp_path: Path, action: str) -> None:
    output = run_on_mount(tmp_path / "volume", "ro", action)
    assert f"cannot write {tmp_path}/volume" in output
    assert "make it a folder that this user may write" in output
    assert "['current.json']" in output
