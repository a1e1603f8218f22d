"""The store of pixels: kept once each, whole after any kill, found out when damaged, cleaned beside running runs."""

import hashlib
import multiprocessing
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from steps.common import locks
from steps.common.errors import StepError
from steps.common.images import shards as shards_module
from steps.common.images.dataset import Rows, open_split, write_split
from steps.common.images.facts import facts, mean_and_deviation, packed
from steps.common.images.shards import PIXELS, RECORD, ROWS, Shards
from steps.common.images.stored import StoredImages, read_ahead
from steps.common.images.unused import remove_unused, unused
from tests.support.killing import killed_after
from tests.support.stored_images import store_images

SHAPE = (6, 6, 3)
FOLDER = "6x6x3-test"
IMAGES = np.random.default_rng(0).integers(0, 256, (60, *SHAPE), dtype=np.uint8)
KEYS = [hashlib.sha256(image.data).hexdigest()[:32] for image in IMAGES]


@pytest.fixture
def shards(volumes: Path) -> Shards:
    return Shards(volumes / "data/pixels" / FOLDER, SHAPE)


def append(shards: Shards, rows: Sequence[int]) -> None:
    with shards.appending() as appender:
        keys = [KEYS[row] for row in rows]
        new = [row for row, found in zip(rows, shards.table().find(packed(keys)), strict=True) if found < 0]
        appender.append(facts([KEYS[row] for row in new], IMAGES[new]), IMAGES[new])


def check(shards: Shards, rows: Sequence[int]) -> None:
    """Each of these rows is there, once, with its own pixels."""
    table = shards.table()
    assert len({fact["key"].tobytes() for fact in table.facts}) == len(table.facts)
    images = StoredImages(shards, [KEYS[row] for row in rows])
    assert (images[:] == IMAGES[list(rows)]).all()


def test_images_are_read_like_an_array(shards: Shards) -> None:
    append(shards, range(0, 60, 2))
    append(shards, range(60))
    rows = np.random.default_rng(1).permutation(60)
    images, wanted = StoredImages(shards, [KEYS[row] for row in rows]), IMAGES[rows]
    assert (len(images), images.shape, images.dtype, images.nbytes) == (60, wanted.shape, np.uint8, wanted.nbytes)
    for chosen in (slice(3, 20), slice(50, 99), slice(None, None, -7), np.array([5, 5, 0, 59]), np.array([-1, 3])):
        assert (images[chosen] == wanted[chosen]).all()
    assert (images[rows > 30] == wanted[rows > 30]).all()
    assert (images[7] == wanted[7]).all()
    assert (images[-1] == wanted[-1]).all()
    assert (np.array(images) == wanted).all()
    assert (np.stack(list(images)) == wanted).all()
    with pytest.raises(IndexError):
        images[60]
    with pytest.raises(IndexError):
        images[np.array([60])]


def test_pixels_are_kept_once_and_in_one_shard_until_it_is_full(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (range(10), range(5, 20), [3]):
        append(shards, rows)
    assert [path.stat().st_size for path in shards.files()] == [20 * shards.row_bytes, 20 * RECORD.itemsize]
    monkeypatch.setattr(shards_module, "_SHARD_BYTES", 25 * shards.row_bytes)
    append(shards, range(60))
    assert [path.stat().st_size // shards.row_bytes for path in shards.files() if path.suffix == PIXELS] == [25, 25, 10]
    check(shards, range(60))


def test_facts_are_those_of_the_pixels(shards: Shards) -> None:
    append(shards, range(60))
    found = StoredImages(shards, KEYS).facts
    assert found["checksum"].tolist() == [zlib.crc32(image.tobytes()) for image in IMAGES]
    assert found["low"].tolist() == IMAGES.min((1, 2, 3)).tolist()
    assert found["high"].tolist() == IMAGES.max((1, 2, 3)).tolist()
    for order in (np.arange(60), np.random.default_rng(2).permutation(60)):
        mean, deviation = mean_and_deviation(found[order], 36, 3)
        assert mean.tolist() == pytest.approx(IMAGES.mean((0, 1, 2)))
        assert deviation.tolist() == pytest.approx(IMAGES.std((0, 1, 2)))


def test_keys_that_begin_alike_are_told_apart(shards: Shards) -> None:
    keys = ["0" * 16 + f"{number:016x}" for number in range(5)]
    with shards.appending() as appender:
        appender.append(facts(keys, IMAGES[:5]), IMAGES[:5])
    assert shards.table().find(packed([*keys[::-1], "0" * 16 + "f" * 16, "f" * 32])).tolist() == [4, 3, 2, 1, 0, -1, -1]


def test_killed_at_any_moment_it_is_whole_and_the_next_run_ends_alike(shards: Shards) -> None:
    append(shards, range(10))
    killed = 0
    for number in range(1, 20):
        if not killed_after(number, lambda: append(shards, range(40))):
            break
        killed += 1
        table = shards.table()
        there = [row for row, found in enumerate(table.find(packed(KEYS))) if found >= 0]
        assert set(there) >= set(range(10))
        check(shards, there)
        append(shards, range(40))
        check(shards, range(40))
        for path in shards.files():  # as it was, for the next kill
            path.unlink()
        append(shards, range(10))
    assert killed >= 3


def test_a_torn_record_is_no_row_and_is_written_over(shards: Shards) -> None:
    append(shards, range(10))
    [_, records] = shards.files()
    os.truncate(records, 9 * RECORD.itemsize + 17)
    assert len(shards.table().facts) == 9
    append(shards, range(20))
    check(shards, range(20))


@pytest.mark.parametrize("lost", ["zeros", "pixels"])
def test_what_a_crash_of_the_machine_lost_is_no_row(shards: Shards, lost: str) -> None:
    append(shards, range(10))
    [pixels, records] = shards.files()
    if lost == "zeros":
        with records.open("ab") as file:
            file.write(bytes(3 * RECORD.itemsize))
        os.truncate(pixels, 13 * shards.row_bytes)
    else:
        os.truncate(pixels, 10 * shards.row_bytes - 1)
    assert len(shards.table().facts) == (10 if lost == "zeros" else 9)
    append(shards, range(20))
    check(shards, range(20))


def test_two_runs_at_once_lose_nothing_and_keep_nothing_twice(shards: Shards) -> None:
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=append, args=(shards, range(first, first + 40))) for first in (0, 10, 20, 0)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert [run.exitcode for run in runs] == [0] * 4
    check(shards, range(60))


def test_without_locks_each_run_writes_a_shard_of_its_own(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    append(shards, range(10))

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no locks")

    monkeypatch.setattr(locks, "acquire", refuse)
    with shards.appending() as one, shards.appending() as other:
        for appender, rows in ((one, range(10, 30)), (other, range(20, 40)), (one, range(40, 60))):
            appender.append(facts([KEYS[row] for row in rows], IMAGES[rows]), IMAGES[rows])
    assert len(shards.files()) == 6
    assert (StoredImages(shards, KEYS)[:] == IMAGES).all()
    assert remove_unused(shards.folder.parents[1], []) == 0


def test_what_pods_decode_at_once_stays_until_a_split_names_it(shards: Shards) -> None:
    volume = shards.folder.parents[1]
    append(shards, range(10))
    for writer, rows in (("1", range(10, 20)), ("2", range(20, 30)), ("1", range(30, 40))):
        with shards.appending(writer) as appender:
            appender.append(facts([KEYS[row] for row in rows], IMAGES[rows]), IMAGES[rows])
    sizes = [path.stat().st_size // shards.row_bytes for path in shards.files() if path.suffix == PIXELS]
    assert sizes == [10, 20, 10], "each writer has a shard of its own"
    append(shards, range(40, 45))
    check(shards, range(45))
    assert unused(volume, []) == []
    assert remove_unused(volume, []) == 0
    check(shards, range(45))
    held = shards.folder / ".held"
    os.utime(held, (0, held.stat().st_mtime - 25 * 3600))
    assert [each.rows for each in unused(volume, [])] == [45], "what a run left that died a day ago"
    os.utime(held)
    shards.release()
    assert remove_unused(volume, []) > 0
    assert shards.files() == []


def test_a_full_disk_leaves_what_was_there(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    append(shards, range(10))
    write, left = os.pwrite, [2]

    def full(handle: int, data: memoryview, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) // 2 + 1], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StepError, match="no space left on the volume of"):
        append(shards, range(30))
    monkeypatch.setattr(os, "pwrite", write)
    check(shards, range(10))
    append(shards, range(30))
    check(shards, range(30))


def test_a_changed_pixel_is_found_when_its_row_is_read(shards: Shards) -> None:
    append(shards, range(60))
    [pixels, _] = shards.files()
    with pixels.open("r+b") as file:
        file.seek(33 * shards.row_bytes + 5)
        [value] = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([value ^ 1]))
    images = StoredImages(shards, KEYS)
    assert (images[:33] == IMAGES[:33]).all()
    with pytest.raises(StepError, match=r"pixels was changed after it was made: delete it and .*rows and run again"):
        images[20:40]


def test_pixels_that_are_cut_off_while_they_are_read_are_found(shards: Shards) -> None:
    append(shards, range(60))
    images = StoredImages(shards, KEYS)
    [path] = [path for path in shards.files() if path.suffix == PIXELS]
    os.truncate(path, 59 * shards.row_bytes + 1)
    with pytest.raises(StepError, match=f"{path.name} was changed"):
        images[:]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says which pages of files are resident")
def test_what_was_read_does_not_stay_in_the_process(volumes: Path) -> None:
    large = Shards(volumes / "data/pixels/128x128x3-test", (128, 128, 3))
    keys = [f"{row:032x}" for row in range(200)]
    black = np.zeros((200, 128, 128, 3), np.uint8)
    with large.appending() as appender:
        appender.append(facts(keys, black), black)
    images, before = StoredImages(large, keys), _resident_of_files()
    for start in range(0, 200, 50):
        images[start : start + 50]
    assert _resident_of_files() - before < 2 << 20, "of 9.8 MB that were read"


def _resident_of_files() -> int:
    return 1024 * int(Path("/proc/self/status").read_text().split("RssFile:")[1].split()[0])


def test_a_changed_record_is_no_row(shards: Shards) -> None:
    append(shards, range(10))
    [_, records] = shards.files()
    data = bytearray(records.read_bytes())
    data[4 * RECORD.itemsize + 20] ^= 1
    records.write_bytes(data)
    with pytest.raises(StepError, match="1 images are not in .* run again, which decodes them"):
        StoredImages(shards, KEYS[:10])
    append(shards, range(10))
    check(shards, range(10))


def test_what_is_read_ahead_comes_in_order_and_ends_when_it_is_left() -> None:
    pieces = [slice(start, start + 7) for start in range(0, 60, 7)]
    assert (np.concatenate(list(read_ahead(IMAGES, pieces))) == IMAGES).all()
    for first in read_ahead(IMAGES, pieces):
        assert (first == IMAGES[:7]).all()
        break


def split(volume: Path, name: str, rows: Sequence[int]) -> None:
    keys = [KEYS[row] for row in rows]
    store_images(FOLDER, keys, IMAGES[list(rows)])
    folder = volume / "dataset" / name
    folder.mkdir(parents=True)
    write_split(folder, ["a"] * len(keys), Rows(keys, keys, keys, [""] * len(keys)), FOLDER)


def test_only_what_no_split_names_is_removed(shards: Shards) -> None:
    volume = shards.folder.parents[1]
    split(volume, "one", range(20))
    split(volume, "two", range(10, 40))
    assert [each.rows for each in unused(volume, ["one", "two"])] == [0]
    [of_one] = unused(volume, ["one", "a split that is gone"])
    assert (of_one.rows, of_one.bytes) == (20, 20 * shards.row_bytes)
    before = (volume / "dataset/one/rows.json").read_bytes()
    assert remove_unused(volume, ["one", "two"]) == 0
    assert remove_unused(volume, ["one"]) == 20 * (shards.row_bytes + RECORD.itemsize)
    check(shards, range(20))
    assert (open_split(volume / "dataset/one").images[:] == IMAGES[:20]).all()
    assert (volume / "dataset/one/rows.json").read_bytes() == before
    assert remove_unused(volume, []) > 0
    assert shards.files() == []


def test_images_that_are_being_read_stay_until_they_are_not(shards: Shards) -> None:
    volume = shards.folder.parents[1]
    split(volume, "one", range(20))
    split(volume, "two", range(10, 40))
    reading = open_split(volume / "dataset/two").images
    remove_unused(volume, ["one"])
    assert (reading[:] == IMAGES[10:40]).all()
    check(shards, range(20))
    del reading
    [left] = unused(volume, ["one"])
    assert left.rows == 0
    assert remove_unused(volume, ["one"]) == left.bytes == 40 * shards.row_bytes


def test_a_split_that_is_made_while_the_clean_up_waits_stays(shards: Shards) -> None:
    volume = shards.folder.parents[1]
    split(volume, "one", range(10))
    cleaning = multiprocessing.get_context("fork").Process(target=remove_unused, args=(volume, ["one"]))
    with shards.appending() as appender:
        cleaning.start()
        cleaning.join(0.3)
        assert cleaning.is_alive()
        appender.append(facts(KEYS[20:30], IMAGES[20:30]), IMAGES[20:30])
        (volume / "dataset/new").mkdir()
        write_split(volume / "dataset/new", ["a"] * 10, Rows(KEYS[20:30], KEYS[20:30], KEYS[20:30], [""] * 10), FOLDER)
    cleaning.join()
    check(shards, [*range(10), *range(20, 30)])


def test_a_clean_up_killed_at_any_moment_loses_nothing(shards: Shards) -> None:
    volume = shards.folder.parents[1]
    split(volume, "one", range(20))
    killed = 0
    for number in range(1, 20):
        append(shards, range(60))
        if not killed_after(number, lambda: remove_unused(volume, ["one"])):
            break
        killed += 1
        assert (open_split(volume / "dataset/one").images[:] == IMAGES[:20]).all()
        remove_unused(volume, ["one"])
        check(shards, range(20))
    assert killed >= 3
    assert not list(shards.folder.glob(f"*{ROWS}*.tmp"))
