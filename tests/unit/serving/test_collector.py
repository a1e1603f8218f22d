"""What a worker keeps: chosen by answer and by chance, in the background, never at the cost of an answer."""

import importlib
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from contract.loop.collected import Collected, read_all, read_image
from contract.loop.collecting import Limits
from contract.paths import ROOT
from serving.model import deadline, payload
from serving.model.payload import Request
from serving.model.predictor import Predictor
from steps.common.images import decode
from tests.support.model_archive import CLASSES, NAME, UNKNOWN_DISTANCE, VERSION, instances, picture, png, write_model

GREY = png(np.full((8, 8), 100, np.uint8))  # unknown
SURE = png(picture(1))


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor(write_model(tmp_path_factory.mktemp("model")), decode, payload, deadline)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module as in the archive, with `collected` beside it; its threads do not start, so a test writes itself."""
    monkeypatch.syspath_prepend(ROOT / "contract/loop")
    found = importlib.import_module("serving.model.collector")
    monkeypatch.setattr(found, "Thread", lambda **_: SimpleNamespace(start=lambda: None))
    yield found
    del sys.modules["serving.model.collector"], sys.modules["collected"]


class Worker:
    """A worker that answers and keeps."""

    def __init__(self, module: Any, predictor: Predictor, folder: Path, **limits: float) -> None:
        self.folder, self._predictor = folder, predictor
        settings = json.loads(Limits(**limits).for_workers(folder))
        self.collector = module.Collector(settings, predictor, payload)

    def asked(self, *requests: Request, kind: str = "", id: str = "id") -> list[Any]:
        """Answer a batch and write what is kept of it."""
        answers = self._predictor.answer(requests)
        ids = [f"{id}-{number}" for number in range(len(requests))]
        self.collector.offer(requests, answers, ids, [kind] * len(requests))
        while not self.collector._queue.empty():
            self.collector.write_next()
        return answers

    def kept(self) -> dict[bytes, Collected]:
        return {read_image(self.folder, record.digest) or b"": record for record in read_all(self.folder)}

    def counted(self, name: str) -> dict[str, float]:
        [metric] = getattr(self.collector, name).collect()
        return {
            next(iter(sample.labels.values())): sample.value
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.value
        }


def test_what_is_unknown_or_nearly_so_is_kept_with_its_answer(
    module: Any, predictor: Predictor, tmp_path: Path
) -> None:
    worker = Worker(module, predictor, tmp_path / "collect", share=0, near=1)
    [_, near, _] = worker.asked(Request(SURE), Request(near_image := png(pixels_near())), Request(GREY))
    worker.asked(instances(SURE, other := png(np.full((8, 8), 90, np.uint8))))
    kept = worker.kept()
    assert set(kept) == {near_image, GREY, other}
    answer = json.loads(near.json)
    grey = kept[GREY]
    assert (grey.label, grey.reason, grey.random, grey.requests) == ("unknown", "unknown", False, ("id-2",))
    assert grey.unknown_by == ("distance", "features_distance")
    assert grey.nearest in CLASSES
    assert kept[near_image] == Collected(
        digest=kept[near_image].digest,
        requests=("id-1",),
        time=kept[near_image].time,
        model=NAME,
        version=VERSION,
        label=answer["label"],
        nearest=answer["label"],
        distance=answer["distance"],
        threshold=UNKNOWN_DISTANCE,
        features_distance=answer["features_distance"],
        features_threshold=predictor.thresholds[1],
        unknown_by=(),
        reason="near",
        random=False,
        polarity=None,
        bytes=len(near_image),
        content_type="image/png",
    )
    assert worker.counted("_collected") == {"near": 1, "unknown": 2}


def pixels_near() -> Any:
    pixels = picture(0, bright=200)
    pixels[:4, 4:] = 60
    return pixels


@pytest.mark.parametrize(
    ("distance", "by_features", "reason"),
    [(0.089, 0.17, "random"), (0.091, 0.0, "near"), (0.0, 0.181, "near"), (None, None, "random")],
)
def test_near_is_the_last_tenth_below_either_threshold(
    module: Any, tmp_path: Path, distance: float | None, by_features: float | None, reason: str
) -> None:
    model = SimpleNamespace(thresholds=(0.1, 0.2))
    settings = {"folder": str(tmp_path), "share": 0, "near": 0.1}
    assert module.Collector(settings, model, payload)._reason(distance, (), by_features) == reason
    without = module.Collector(settings, SimpleNamespace(thresholds=(None, None)), payload)
    assert without._reason(distance, (), by_features) == "random"
    assert without._reason(distance, ("distance",), by_features) == "unknown"


def test_all_are_kept_with_a_share_of_one_each_once(module: Any, predictor: Predictor, tmp_path: Path) -> None:
    worker = Worker(module, predictor, tmp_path / "collect", share=1)
    form = {"data": png(picture(2)), "polarity": b"light-on-dark"}
    worker.asked(
        Request(SURE, "image/png"),
        Request(form=form),
        instances(png(picture(3)), GREY, SURE),
        Request(b"no image"),
        instances(png(picture(0)), b"no image"),
    )
    kept = worker.kept()
    assert set(kept) == {SURE, GREY, png(picture(2)), png(picture(3))}
    assert all(record.random for record in kept.values())
    assert kept[SURE].requests == ("id-0", "id-2")
    assert kept[GREY].requests == kept[png(picture(3))].requests == ("id-2",)
    assert (kept[GREY].reason, kept[SURE].reason) == ("unknown", "random")
    assert kept[png(picture(2))].polarity == "light-on-dark"
    assert worker.counted("_collected") == {"random": 3, "unknown": 1}


def test_chance_draws_requests_with_all_their_images(
    module: Any, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(module, predictor, tmp_path / "collect", share=0.5)
    chances = iter([0.4, 0.6])
    monkeypatch.setattr(module.random, "random", lambda: next(chances))
    worker.asked(instances(SURE, GREY), instances(png(picture(2)), png(picture(3))))
    assert set(worker.kept()) == {SURE, GREY}


@pytest.mark.parametrize("kind", ["probe", "shadow"])
def test_only_what_clients_send_is_kept(module: Any, predictor: Predictor, tmp_path: Path, kind: str) -> None:
    worker = Worker(module, predictor, tmp_path / "collect", share=1)
    worker.asked(Request(GREY), kind=kind)
    assert worker.kept() == {}


def test_what_comes_faster_than_it_is_written_is_dropped_and_counted(
    module: Any, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(module, predictor, tmp_path / "collect", share=1)
    monkeypatch.setattr(module, "_QUEUE_BYTES", 2 * module._size(Request(SURE)))
    worker.asked(*(Request(SURE) for _ in range(5)))
    assert worker.counted("_dropped") == {"queue": 3}
    assert len(worker.kept()[SURE].requests) == 2
    assert worker.collector._waiting == 0
    worker.asked(Request(SURE))
    assert worker.counted("_dropped") == {"queue": 3}


def test_a_disk_that_takes_nothing_is_counted_and_said_once(
    module: Any, predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "collect"
    folder.write_text("a file where the folder should be")
    worker = Worker(module, predictor, folder, share=1)
    answers = worker.asked(Request(SURE), Request(GREY), Request(SURE))
    assert [answer.status for answer in answers] == [200] * 3
    assert worker.counted("_dropped") == {"disk": 3}
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        f"images cannot be kept in {folder}"
    ]
    folder.unlink()
    worker.asked(Request(GREY))
    assert set(worker.kept()) == {GREY}


def test_no_image_ends_in_the_log(
    module: Any, predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(module, predictor, tmp_path / "collect", share=1)

    def fail(request: Request, *_: object) -> None:
        raise ValueError(f"cannot read {request.body!r}")

    worker.collector._payload = SimpleNamespace(read=fail)
    worker.asked(Request(GREY))
    assert worker.counted("_dropped") == {"fault": 1}
    assert "ValueError" in caplog.text
    assert "PNG" not in caplog.text


def test_off_it_starts_nothing_and_writes_nothing(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Thread", threading.Thread)
    monkeypatch.delenv("COLLECT", raising=False)
    before = threading.active_count()
    assert module.start(None, payload) is None
    assert threading.active_count() == before


def test_on_it_writes_in_a_thread(
    module: Any, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(module, "Thread", lambda **how: SimpleNamespace(start=lambda: started.append(how)))
    monkeypatch.setenv("COLLECT", Limits(share=1).for_workers(tmp_path))
    collector = module.start(predictor, payload)
    assert [(how["target"], how["daemon"]) for how in started] == [(collector._write, True)]
