"""The keeper: the store stays within its limits, and what is worth most stays longest, with any number of keepers."""

import os
import shutil
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.loop import collected
from contract.loop.collected import read_all
from contract.loop.collecting import Limits
from serving.collect.keeper import Keeper
from serving.log import Log
from tests.support.collected_images import kept

DISK_BYTES = 8192  # of a small image with its record
SEVEN = Limits.model_construct(max_mb=7 * DISK_BYTES / 1e6, max_days=30)
NOW = datetime.now(UTC)


def ago(**time: float) -> str:
    return (NOW - timedelta(**time)).isoformat(timespec="milliseconds")


def keeper(folder: Path, limits: Limits = SEVEN) -> Keeper:
    return Keeper(folder, limits, Log(folder.with_name("log")))


def names(folder: Path) -> list[str]:
    return sorted((collected.read_image(folder, record.digest) or b"").decode() for record in read_all(folder))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "collect"


def fill(folder: Path) -> None:
    """Three of each reason, 9 in all; those that were kept last are the oldest."""
    for reason in ("random", "near", "unknown"):
        for number in range(3):
            kept(folder, f"{reason} {number}".encode(), reason=reason, time=ago(hours=number))


def test_the_oldest_and_least_informative_go_first(folder: Path) -> None:
    fill(folder)
    one = keeper(folder)
    one.look()
    assert names(folder) == ["near 0", "near 1", "near 2", "unknown 0", "unknown 1", "unknown 2"]
    assert one.bytes == 6 * DISK_BYTES, "a twentieth of the limit is left"
    for number in range(3, 6):
        kept(folder, f"unknown {number}".encode(), reason="unknown", time=ago(hours=number))
    one.look()
    assert names(folder) == [f"unknown {number}" for number in range(6)]
    kept(folder, b"unknown 6", reason="unknown", time=ago(hours=6))
    kept(folder, b"unknown 7", reason="unknown", time=ago(hours=7))
    one.look()
    assert names(folder) == [f"unknown {number}" for number in range(6)]


def test_what_fits_stays(folder: Path) -> None:
    for number in range(7):
        kept(folder, bytes([number]))
    one = keeper(folder)
    one.look()
    assert len(names(folder)) == 7


def test_each_is_kept_for_max_days_whatever_it_is(folder: Path) -> None:
    for reason in ("random", "near", "unknown"):
        kept(folder, f"{reason} old".encode(), reason=reason, random=True, time=ago(days=31))
        kept(folder, f"{reason} new".encode(), reason=reason, random=True, time=ago(days=29))
    keeper(folder).look()
    assert names(folder) == ["near new", "random new", "unknown new"]


def test_the_random_ones_stay_a_fair_sample_when_some_of_them_go(folder: Path) -> None:
    """One that stays since it is unknown is not random any more: else the rest would be more unknown than the world."""
    for number in range(6):
        kept(folder, f"random {number}".encode(), time=ago(hours=number))
        kept(folder, f"unknown {number}".encode(), reason="unknown", random=True, time=ago(hours=number))
    keeper(folder, Limits.model_construct(max_mb=10 * DISK_BYTES / 1e6, max_days=30)).look()
    left = list(read_all(folder))
    assert Counter(record.reason for record in left) == {"unknown": 6, "random": 3}
    assert Counter(record.reason for record in left if record.random) == {"unknown": 3, "random": 3}
    assert max(record.time for record in left if not record.random) < min(
        record.time for record in left if record.random
    )


def test_several_keepers_remove_no_more_than_one(folder: Path) -> None:
    fill(folder)
    keepers = [keeper(folder) for _ in range(3)]
    for each in (*keepers, *keepers):
        each.look()
    assert len(names(folder)) == 6
    assert {each.bytes for each in keepers} == {6 * DISK_BYTES}


def test_an_image_that_came_again_is_as_old_as_it_is_now(folder: Path) -> None:
    one = keeper(folder)
    kept(folder, b"image", time=ago(days=29))
    one.look()
    digest = collected.digest_of(b"image")
    collected.remove(folder, digest)
    one._listing.seen.clear()
    one.look()
    assert one.bytes == 0
    kept(folder, b"image", time=ago(days=1))
    one.limits = Limits(max_days=20)
    one.look()
    assert names(folder) == ["image"]


def test_an_image_that_was_near_and_then_unknown_stays_as_an_unknown_one(folder: Path) -> None:
    one = keeper(folder)
    kept(folder, b"first near", reason="near", time=ago(hours=1))
    one.look()
    kept(folder, b"first near", reason="unknown")
    for number in range(7):
        kept(folder, f"near {number}".encode(), reason="near")
    one.look()
    assert len(names(folder)) == 6
    assert "first near" in names(folder)


def test_a_look_reads_only_what_is_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        kept(folder, bytes([number]))
    one = keeper(folder, Limits())
    one.look()
    seen: list[str] = []
    read = collected.read
    monkeypatch.setattr(collected, "read", lambda folder, digest: seen.append(digest) or read(folder, digest))
    one.look()
    assert seen == []
    digest = kept(folder, b"new")
    one.look()
    assert seen[1:] == [digest], "besides the one that write itself has read"
    for path in [folder / "images" / shard for shard in collected.shards(folder)]:
        os.utime(path, (1, 1))  # they have settled
    one.look()
    listed: list[str] = []
    digests = collected.digests
    monkeypatch.setattr(collected, "digests", lambda folder, shard: listed.append(shard) or digests(folder, shard))
    one.look()
    assert listed == []


def test_what_killed_writers_left_is_removed_when_nobody_can_be_writing_it(folder: Path) -> None:
    digest = kept(folder, b"image")
    shard = folder / "images" / digest[:2]
    old, new = shard / f".{digest}.old", shard / f".{digest}.new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    keeper(folder).look()
    assert sorted(path.name for path in shard.iterdir()) == sorted([digest, f"{digest}.json", new.name])


def test_a_store_that_cannot_be_emptied_is_said_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    one = keeper(folder)

    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(collected, "remove", fail)
        for _ in range(3):
            one.look()
    assert folder.with_name("log").read_text().count("Read-only file system") == 1
    one.look()
    assert len(names(folder)) == 6


def test_a_store_that_somebody_removed_is_empty(folder: Path) -> None:
    fill(folder)
    one = keeper(folder, Limits())
    one.look()
    assert one.bytes == 9 * DISK_BYTES
    shutil.rmtree(folder)
    one.look()
    assert one.bytes == 0


def test_without_a_store_there_is_nothing_to_keep(folder: Path) -> None:
    one = keeper(folder)
    one.look()
    assert one.bytes == 0
    assert not folder.exists()


def test_it_watches_within_its_block_and_no_longer(folder: Path) -> None:
    fill(folder)
    with keeper(folder) as one:
        deadline = time.monotonic() + 10
        while len(names(folder)) > 6 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(names(folder)) == 6
    assert not one._thread.is_alive()
