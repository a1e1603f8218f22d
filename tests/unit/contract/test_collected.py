"""The store of collected images: whole or not there, once for each content, whoever writes at the same time."""

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from contract.loop import collected
from contract.loop.collected import MAX_REQUESTS, read, read_all, read_image, remove, strays, write
from tests.support.collected_images import kept, record_of


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_an_image_is_two_files_that_only_this_user_reads(tmp_path: Path) -> None:
    folder = tmp_path / "volumes/collect"
    digest = kept(folder, b"image", reason="unknown", label="unknown")
    assert files(folder) == [f"images/{digest[:2]}/{digest}", f"images/{digest[:2]}/{digest}.json"]
    assert {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*")) if path.is_dir()} == {0o700}
    assert read_image(folder, digest) == b"image"
    assert [*read_all(folder)] == [read(folder, digest)] == [record_of(b"image", reason="unknown", label="unknown")]


def test_the_same_content_is_stored_once_and_gains_ids(tmp_path: Path) -> None:
    first = record_of(b"image", reason="near", requests=("a",))
    assert write(tmp_path, b"image", first)
    for number in range(2 * MAX_REQUESTS):
        later = replace(first, requests=(f"id-{number}",), time="2026-11-27T05:00:00.000+00:00", version="2222bbbb")
        assert not write(tmp_path, b"image", later)
        assert not write(tmp_path, b"image", later), "the same request twice"
    [record] = read_all(tmp_path)
    ids = ("a", *(f"id-{number}" for number in range(MAX_REQUESTS - 1)))
    assert record == replace(first, requests=ids)


def test_an_answer_drawn_at_random_replaces_one_that_was_not(tmp_path: Path) -> None:
    asked, drawn = record_of(b"x", reason="near", version="1"), record_of(b"x", version="2", requests=("b",))
    for order in ((asked, drawn), (drawn, asked)):
        for record in order:
            write(tmp_path / order[0].version, b"x", record)
        [found] = read_all(tmp_path / order[0].version)
        assert (found.version, found.random, set(found.requests)) == ("2", True, {"request-1", "b"})


def test_an_answer_with_a_better_reason_replaces_the_other_if_neither_was_drawn(tmp_path: Path) -> None:
    near, unknown = (record_of(b"x", reason=reason, version=reason) for reason in ("near", "unknown"))
    drawn = record_of(b"y", version="drawn")
    for record in (near, unknown, near):
        write(tmp_path, b"x", record)
    for record in (drawn, record_of(b"y", reason="unknown", version="later")):
        write(tmp_path, b"y", record)
    assert {record.version for record in read_all(tmp_path)} == {"unknown", "drawn"}


def test_what_is_not_whole_is_not_there(tmp_path: Path) -> None:
    whole, changed, no_image, no_record, damaged = [kept(tmp_path, bytes([number])) for number in range(5)]
    paths = {digest: collected.image_path(tmp_path, digest) for digest in (changed, no_image, no_record, damaged)}
    paths[changed].write_bytes(b"other")
    paths[no_image].unlink()
    paths[no_record].with_name(f"{no_record}.json").unlink()
    paths[damaged].with_name(f"{damaged}.json").write_text('{"digest": "')
    assert read_image(tmp_path, changed) is read_image(tmp_path, no_image) is None
    assert {record.digest for record in read_all(tmp_path)} == {whole, changed}
    left = {path.name for shard in collected.shards(tmp_path) for path in strays(tmp_path, shard)}
    assert left == {f"{no_image}.json", no_record}


@pytest.mark.parametrize(
    "change",
    [{"digest": "../x"}, {"reason": "bored"}, {"requests": 3}, {"label": None}, {"time": 7}, {"bytes": "1"}],
)
def test_a_record_of_another_form_is_left_out(tmp_path: Path, change: dict[str, object]) -> None:
    digest = kept(tmp_path, b"image")
    path = collected.image_path(tmp_path, digest).with_name(f"{digest}.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert [*read_all(tmp_path)] == []


def test_a_digest_is_no_path(tmp_path: Path) -> None:
    for name in ("../../etc/passwd", "", "A" * 64, "0" * 63):
        with pytest.raises(ValueError, match="is no SHA-256: give 64 hexadecimal digits"):
            read_image(tmp_path, name)


def test_racing_writers_leave_whole_images(tmp_path: Path) -> None:
    images = [bytes([number]) * 2000 for number in range(6)]

    def race(writer: int) -> None:
        for image in images:
            write(tmp_path, image, record_of(image, requests=(f"writer-{writer}",)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(race, range(8)))
    records = list(read_all(tmp_path))
    assert sorted(read_image(tmp_path, record.digest) or b"" for record in records) == images
    assert all(record.requests and set(record.requests) <= {f"writer-{n}" for n in range(8)} for record in records)
    assert len(files(tmp_path)) == 2 * len(images), "and no temporary files"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("step", ["os.fdopen", "os.replace", "tempfile.mkstemp"])
def test_a_disk_that_takes_nothing_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, step: str
) -> None:
    kept(tmp_path, b"before")
    before = files(tmp_path)

    def fail(*arguments: object, **_: object) -> None:
        if step == "os.fdopen":
            os.close(int(str(arguments[0])))
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(step, fail)
        for image in (b"before", b"new"):
            with pytest.raises(OSError, match=os.strerror(number)):
                write(tmp_path, image, record_of(image, requests=("other",)))
    assert files(tmp_path) == before
    assert [record.requests for record in read_all(tmp_path)] == [("request-1",)]
    assert write(tmp_path, b"new", record_of(b"new"))


def test_removing_takes_both_files(tmp_path: Path) -> None:
    digest = kept(tmp_path, b"image")
    assert remove(tmp_path, digest)
    assert not remove(tmp_path, digest)
    assert files(tmp_path) == []
