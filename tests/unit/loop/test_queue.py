"""The most useful images come first, decisions take them out, and an answer does not read the whole store."""

from pathlib import Path

import pytest

from contract.loop import collected
from contract.loop.labels import Action, Measured
from pipeline.loop.errors import LabelError
from pipeline.loop.labels import Book
from pipeline.loop.placing import TRAIN
from pipeline.loop.review import queue as module
from pipeline.loop.review.queue import Queue
from tests.support.images_to_review import VERSION, add, image, unknown


@pytest.fixture
def store(volumes: Path) -> Path:
    return volumes / collected.FOLDER


def opened(store: Path) -> Queue:
    queue = Queue(store, Book("light-on-dark", 10_000))
    queue.serve(VERSION)
    return queue


def look_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", -1.0)
    queue.look()


def order(queue: Queue, name: str) -> list[str]:
    return [record.digest for record in queue.first(name, 10)]


def measured(queue: Queue) -> Measured:
    return queue._book.measured(VERSION)


def test_each_list_has_its_order(store: Path) -> None:
    old, new = unknown(store, 1), unknown(store, 2)
    nearer = add(store, image(4), 4, reason="near", distance=0.29)
    farther = add(store, image(3), 3, reason="near", distance=0.25)
    by_features = {"features_distance": 0.199, "features_threshold": 0.2}
    nearest = add(store, image(8), 8, reason="near", distance=0.1, **by_features)
    other = add(store, image(5), 5, random=True, version="another")
    second = add(store, image(7), 7, random=True)
    first = add(store, image(6), 6, random=True)
    queue = opened(store)
    assert order(queue, "unknown") == [new, old], "the newest first"
    assert order(queue, "near") == [nearest, nearer, farther], "by the distance to the threshold"
    assert order(queue, "random") == [first, second, other], "as they were drawn, those of the served version first"
    assert queue.counts() == {"unknown": 2, "near": 3, "random": 3, "skipped": 0}
    assert queue.answers() == {"unknown": 2, "upper left": 6}


def test_what_is_decided_waits_no_more_and_comes_back_when_undone(store: Path) -> None:
    one, two = unknown(store, 1), unknown(store, 2)
    queue = opened(store)
    lines = queue.label([one, two], "nine", TRAIN, "unknown")
    assert queue.counts()["unknown"] == 0
    assert queue.answers() == {}
    queue.undo([line.id for line in lines])
    assert order(queue, "unknown") == [two, one]
    queue.note(two, Action.SKIP, "unknown")
    assert order(queue, "unknown") == [one]
    assert order(queue, "skipped") == [two]
    queue.note(two, Action.NOT_OURS, "skipped")
    assert queue.counts() == {"unknown": 1, "near": 0, "random": 0, "skipped": 0}
    assert opened(store).counts() == queue.counts(), "another start knows the same"


def test_new_images_come_and_old_ones_go(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = unknown(store, 1)
    queue = opened(store)
    two = unknown(store, 2)
    queue.look()
    assert order(queue, "unknown") == [one], "it looks every two seconds"
    look_again(queue, monkeypatch)
    assert order(queue, "unknown") == [two, one]
    collected.remove(store, one)
    add(store, image(2), 2, label="unknown", reason="unknown", random=True)
    look_again(queue, monkeypatch)
    assert order(queue, "unknown") == order(queue, "random") == [two]
    with pytest.raises(LabelError, match="any more"):
        queue.label([one], "nine", TRAIN, "unknown")


def test_what_another_process_decided_waits_no_more(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = unknown(store, 1)
    queue, other = opened(store), opened(store)
    other.label([one], "nine", TRAIN, "unknown")
    look_again(queue, monkeypatch)
    assert queue.counts()["unknown"] == 0
    queue.label([one], "four", TRAIN, "unknown")
    assert measured(queue) == Measured(0, 0, 0)


def test_random_images_count_once_all_before_them_are_decided(store: Path) -> None:
    """So neither the order of the lists nor where somebody stops makes the measured accuracy better or worse."""
    right = add(store, image(1), 1, random=True)
    missed = unknown(store, 2, random=True)
    skipped = add(store, image(3), 3, random=True)
    foreign = unknown(store, 5, random=True)
    last = add(store, image(6), 6, random=True)
    add(store, image(7), 7, random=True, version="another")
    queue = opened(store)
    queue.label([missed], "nine", TRAIN, "unknown")
    queue.note(foreign, Action.NOT_OURS, "unknown")
    assert measured(queue) == Measured(0, 0, 0), "what is unknown is looked at first, and does not count alone"
    queue.label([right], "upper left", TRAIN, "random")
    assert measured(queue) == Measured(1, 2, 0)
    queue.note(skipped, Action.SKIP, "random")
    assert measured(queue) == Measured(2, 3, 1), "what is of no class was answered rightly by unknown"
    [line] = queue.label([last], "nine", TRAIN, "random")
    assert measured(queue) == Measured(2, 4, 1)
    queue.undo([line.id])
    assert measured(queue) == Measured(2, 3, 1)


def test_an_answer_reads_one_image_of_many(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = [unknown(store, number) for number in range(200)]
    queue = opened(store)
    for shard in collected.shards(store):  # as if all were written long ago
        queue._listing.seen[shard] = collected.shard_path(store, shard).stat().st_mtime_ns
    read, images, listed = [], [], []
    monkeypatch.setattr(collected, "read", lambda *given: read.append(given))
    monkeypatch.setattr(collected, "digests", lambda *given: listed.append(given) or [])
    real = collected.read_image
    monkeypatch.setattr(collected, "read_image", lambda *given: images.append(given) or real(*given))
    look_again(queue, monkeypatch)
    queue.first("unknown", 3)
    queue.label(digests[:1], "nine", TRAIN, "unknown")
    assert (len(read), len(listed), len(images)) == (0, 0, 1)
    assert queue.counts()["unknown"] == 199
