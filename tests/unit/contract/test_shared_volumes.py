"""Volumes that several nodes share: what one wrote another sees late, locks may lack, and errors are other ones."""

import errno
import io
import json
import os
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout

from contract import mounts
from contract.files import read_text, replace
from contract.mounts import locks_end_at_the_node, patience
from contract.pointer import lock_path
from serving import pointer as serving
from serving.pointer import PointerError, read_deployed
from steps.common import store, usage
from steps.common.errors import StepError
from steps.common.images.shards import Shards
from steps.deploy.release.lock import exclusive
from tests.support.lockless import no_locks

CODE = ("steps.common.images.format",)
MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
40 22 0:40 / /srv/volumes rw,relatime shared:2 - nfs4 server:/srv rw,vers=4.1
41 40 0:41 / /srv/volumes/scratch rw - tmpfs tmpfs rw
42 22 0:42 / /srv/with\040blank rw - fuse.sshfs server: rw
43 22 0:43 / /srv/hidden rw - nfs server:/a rw
44 22 0:44 / /srv/hidden rw - xfs /dev/vda rw
45 22 0:45 / /srv/nolock rw - nfs server:/b rw,vers=3,nolock,local_lock=all,addr=10.0.0.1
46 22 0:46 / /srv/nfs3 rw - nfs server:/c rw,vers=3,local_lock=none,addr=10.0.0.1
"""


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says what is mounted, with MOUNTS."""
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    monkeypatch.setattr(mounts, "_MOUNTS", path)
    return path


@pytest.mark.parametrize(
    ("path", "is_shared"),
    [
        ("/", False),
        ("/srv/volumes", True),
        ("/srv/volumes/model/network", True),
        ("/srv/volumes2", False),
        ("/srv/volumes/scratch/x", False),
        ("/srv/with blank/model", True),
        ("/srv/hidden/model", False),
    ],
)
def test_only_what_nodes_may_share_is_waited_for(mountinfo: Path, path: str, is_shared: bool) -> None:
    assert bool(patience(Path(path))) == is_shared
    mountinfo.unlink()
    assert patience(Path(path)) == 0


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        ("/srv/volumes/model", False),
        ("/srv/with blank/model", True),
        ("/srv/nolock/model", True),
        ("/srv/nfs3/model", False),
        ("/srv/hidden", False),
        ("/", False),
    ],
)
@pytest.mark.usefixtures("mountinfo")
def test_locks_that_end_at_the_node_are_known_by_the_mount(path: str, ends: bool) -> None:
    assert locks_end_at_the_node(Path(path)) == ends


@pytest.fixture
def sftp(tmp_path: Path, mountinfo: Path) -> Path:
    """A folder that other nodes have, too, on a mount whose locks end at this node."""
    mountinfo.write_text(f"1 0 0:1 / {tmp_path}/volume rw - fuse.sshfs server: rw,user_id=0\n")
    return tmp_path / "volume"


def test_what_another_node_is_building_is_left_to_it(sftp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = store.artefact_id("train", {}, {}, CODE)
    others = sftp / "network" / f".{id}.theirs"
    others.mkdir(parents=True)
    produced(sftp)
    assert others.exists()
    monkeypatch.undo()  # where locks hold, it is what a killed run has left
    (sftp / "network" / id / "manifest.json").unlink()
    produced(sftp)
    assert not others.exists()


def test_nodes_without_common_locks_append_to_shards_of_their_own(sftp: Path) -> None:
    with Shards(sftp, (1, 1, 1)).alone() as locked:
        assert not locked


def test_locks_that_end_at_the_node_do_not_let_deploy_go_on(sftp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOLUMES", str(sftp))
    with (
        pytest.raises(StepError, match=r"no locks that hold on every node.*deploy\.without_locks"),
        exclusive(without_locks=False),
    ):
        pass
    with exclusive(), pytest.raises(Timeout):  # runs of this node still take turns
        FileLock(lock_path(sftp / "deploy-model")).acquire(blocking=False)


def test_locks_that_end_at_the_node_do_not_let_gc_delete(sftp: Path) -> None:
    sftp.mkdir()
    refused = r"no locks that hold on every node \(those of its mount end at this node\)"
    with pytest.raises(StepError, match=refused), usage.exclusive(sftp):
        pass


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file system is one that nodes share."""
    for module in (store, serving):
        monkeypatch.setattr(module, "patience", lambda _: 20.0)
    monkeypatch.setattr(store, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(serving, "_WAIT_SECONDS", 0.001)


def produced(volume: Path) -> store.Artefact:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "file").write_text("made")
        return {}

    return store.produce(volume, "network", "train", parameters={}, inputs={}, build=build, code=CODE)


def late(real: Callable[..., Any], looks: int, missing: Callable[[], Any]) -> Callable[..., Any]:
    """The function of a node that knows for some looks that there is nothing."""
    left = [looks]

    def look(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        return missing() if left[0] >= 0 else real(*args, **kwargs)

    return look


def test_a_step_waits_for_what_another_node_has_just_made(
    tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = produced(tmp_path)
    monkeypatch.setattr(store, "look", late(store.look, 5, lambda: None))
    assert store.read(tmp_path, "network", made.id).path == made.path


def test_what_is_missing_on_one_node_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "patience", lambda _: 0.0)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(StepError, match="is missing or incomplete"):
        store.read(tmp_path, "network", "0" * 16)


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EEXIST, errno.EPERM, errno.EIO])
def test_the_first_of_two_builders_wins_whatever_the_rename_of_the_second_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """SFTP answers a rename to a folder that is there with a failure that has no name."""
    first = produced(tmp_path)
    folder = tmp_path / "network/.second"
    folder.mkdir()
    (folder / "file").write_text("made")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "rename", refuse)
    store._publish(folder, first.path)
    assert store.look(first.path)
    assert not folder.exists()


def test_the_second_of_two_builders_finds_the_first_one_even_if_its_node_sees_it_late(
    tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node remembers, from before the build, that there is none."""
    other, real = tmp_path / "other", Path.rename
    first = produced(other).path

    def overtaken(folder: Path, final: Path) -> None:
        final.parent.mkdir(exist_ok=True)
        real(first, final)
        monkeypatch.setattr(store, "look", late(look, 6, lambda: None))
        raise OSError(errno.EIO, "Failure")

    look = store.look
    monkeypatch.setattr(Path, "rename", overtaken)
    made = produced(tmp_path / "volume")
    assert (made.path / "file").read_text() == "made"


def test_a_rename_that_fails_without_another_builder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="broken"):
        produced(tmp_path)


def test_without_locks_a_result_is_made_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", no_locks)
    assert not produced(tmp_path).unchanged
    assert produced(tmp_path).unchanged


def test_a_file_that_was_replaced_while_it_was_read_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "current.json"
    path.write_text("new")

    def stale() -> str:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_text", late(Path.read_text, 1, stale))
    assert read_text(path) == "new"
    monkeypatch.setattr(Path, "read_text", late(Path.read_text, 2, stale))
    with pytest.raises(OSError, match="Stale"):
        read_text(path)


def publish(volume: Path, version: str, archive: bytes) -> None:
    """As deploy: archive, record, pointer, each by rename."""
    (volume / "versions").mkdir(exist_ok=True)
    (volume / "model-store").mkdir(exist_ok=True)
    record = {"name": "digits", "version": version, "mar": f"digits_{version}.mar"}
    record["sha256"] = sha256(archive).hexdigest()
    replace(volume / "model-store" / record["mar"], io.BytesIO(archive))
    for path in (volume / "versions" / f"{version}.json", volume / "current.json"):
        replace(path, io.BytesIO(json.dumps(record).encode()))


def test_a_server_never_starts_with_half_of_what_is_being_published(
    tmp_path: Path, shared: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node sees names late: each file is missing at every third look, the archive although the pointer names it."""
    looks = iter(range(1 << 30))
    opened = Path.open

    def open_late(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.suffix == ".mar" and next(looks) % 3:
            raise FileNotFoundError(errno.ENOENT, "not seen yet", str(path))
        return opened(path, *args, **kwargs)

    archives = {f"v{number}": bytes([number]) * 50_000 for number in range(40)}
    publish(tmp_path, "v0", archives["v0"])
    writer = threading.Thread(target=lambda: [publish(tmp_path, *each) for each in archives.items()])
    monkeypatch.setattr(Path, "open", open_late)
    writer.start()
    seen = set()
    while writer.is_alive() or "v39" not in seen:
        found = read_deployed(tmp_path)
        with open(found.mar, "rb") as archive:  # by another way than the one that is late
            assert archive.read() == archives[found.version]
        seen.add(found.version)
    writer.join()


def test_a_pinned_server_waits_until_its_node_sees_the_record(tmp_path: Path, shared: None) -> None:
    """The Deployment's pod template names a version the moment after it was published on another node."""
    late = threading.Timer(0.05, publish, (tmp_path, "v1", b"archive"))
    late.start()
    assert read_deployed(tmp_path, "v1").version == "v1"
    late.join()


def test_an_archive_that_stays_damaged_is_said_after_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "patience", lambda _: 0.02)
    monkeypatch.setattr(serving, "_WAIT_SECONDS", 0.001)
    publish(tmp_path, "v1", b"archive")
    (tmp_path / "model-store/digits_v1.mar").write_bytes(b"half")
    with pytest.raises(PointerError, match="has SHA-256 .* where the pointer says"):
        read_deployed(tmp_path)
