"""Keeps images that are worth a look, in a thread of the worker. Part of the model archive.

Reads its settings from COLLECT, which is not set where collecting is off, and writes the store whose form `collected`
has. No answer waits for it: what it cannot take or write is counted and dropped.
"""

import json
import logging
import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from types import ModuleType
from typing import Any, NamedTuple

import collected  # type: ignore[import-not-found]  # in the archive all modules are in one folder
from prometheus_client import CollectorRegistry, Counter

# Requests that wait to be written, in bytes: of their bodies, and of what Python needs for each.
_QUEUE_BYTES, _REQUEST_BYTES = 32 << 20, 16 << 10
# What the thread may take of a core: the answers need the worker's processor, and its interpreter, too.
_SHARE_OF_A_CORE = 0.1
_QUEUE, _DISK, _FAULT = "queue", "disk", "fault"
_SIGNATURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"RIFF", "image/webp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
)
_OTHER_TYPE = "application/octet-stream"


class _Kept(NamedTuple):
    """A request of which images are kept, with its answer as JSON, and the reason for each of its images."""

    request: Any
    answer: bytes
    id: str
    drawn: bool
    reasons: Sequence[str]
    time: float


def start(predictor: Any, payload: ModuleType) -> "Collector | None":
    """Start the thread, if collecting is on.

    Args:
        predictor: The model's `predictor.Predictor`.
        payload: The archive's module of that name.

    Returns:
        The collector; None if collecting is off.
    """
    settings = os.environ.get("COLLECT")
    return Collector(json.loads(settings), predictor, payload) if settings else None


class Collector:
    """Chooses among the answers of one model, and writes the images in a thread.

    Args:
        settings: `folder` of the store; `share` of the requests that are drawn at random; `near`, the part below its
            threshold in which a distance is near it.
        predictor: The model's `predictor.Predictor`.
        payload: The archive's module of that name.
    """

    def __init__(self, settings: Mapping[str, Any], predictor: Any, payload: ModuleType) -> None:
        self._folder, self._share = Path(settings["folder"]), float(settings["share"])
        self._predictor, self._payload = predictor, payload
        self._near = [None if limit is None else (1 - settings["near"]) * limit for limit in predictor.thresholds]
        self._queue: SimpleQueue[_Kept] = SimpleQueue()
        self._waiting, self._lock = 0, Lock()
        self._said: set[str] = set()
        registry = CollectorRegistry()  # serving/monitor.py adds up the workers' files
        self._collected = Counter(
            "serving_collected", "Images that were kept, by the reason", ["reason"], registry=registry
        )
        self._dropped = Counter(
            "serving_collect_dropped",
            "Requests whose images were to be kept, and could not be",
            ["cause"],
            registry=registry,
        )
        for reason in collected.REASONS:
            self._collected.labels(reason)
        for cause in (_QUEUE, _DISK, _FAULT):
            self._dropped.labels(cause)
        Thread(target=self._write, name="collector", daemon=True).start()

    def offer(self, requests: Sequence[Any], answers: Sequence[Any], ids: Sequence[str], kinds: Sequence[str]) -> None:
        """Choose what is kept of a batch. It never waits.

        Args:
            requests: One `payload.Request` each.
            answers: The predictor's answers.
            ids: The request's id, for each.
            kinds: Of each request: none for a client's; others, such as health checks, are left out.
        """
        for request, answer, id, kind in zip(requests, answers, ids, kinds, strict=True):
            if kind or not answer.predictions:
                continue
            drawn = random.random() < self._share  # noqa: S311 - nobody gains by knowing it
            reasons = [
                self._reason(distance, by, by_features)
                for (_, distance, by), by_features in zip(answer.predictions, answer.by_features, strict=True)
            ]
            if drawn or reasons.count(collected.RANDOM) < len(reasons):
                self._put(_Kept(request, answer.json, id, drawn, reasons, time.time()))

    def _reason(self, distance: float | None, by: Sequence[str], by_features: float | None) -> str:
        if by:
            return str(collected.UNKNOWN)
        for value, near in zip((distance, by_features), self._near, strict=True):
            if value is not None and near is not None and value > near:
                return str(collected.NEAR)
        return str(collected.RANDOM)

    def _put(self, kept: _Kept) -> None:
        size = _size(kept.request)
        with self._lock:
            has_room = self._waiting + size <= _QUEUE_BYTES
            self._waiting += size * has_room
        if has_room:
            self._queue.put(kept)
        else:
            self._drop(_QUEUE, "they come faster than they are written")

    def _write(self) -> None:
        while True:
            began = time.thread_time()
            self.write_next()
            time.sleep((time.thread_time() - began) * (1 / _SHARE_OF_A_CORE - 1))

    def write_next(self) -> None:
        """Wait for a request, and write its images."""
        kept = self._queue.get()
        try:
            self._store(kept)
        except OSError as error:
            self._drop(_DISK, error.strerror or type(error).__name__)
        except Exception as error:  # a defect; its message may hold what a client sent
            self._drop(_FAULT, type(error).__name__)
        with self._lock:
            self._waiting -= _size(kept.request)

    def _store(self, kept: _Kept) -> None:
        images = self._payload.read(kept.request, self._predictor.max_instances)
        answer = json.loads(kept.answer)
        predictions = answer["predictions"] if images.many else [answer]
        for (image, polarity), prediction, reason in zip(images.images, predictions, kept.reasons, strict=True):
            if kept.drawn or reason != collected.RANDOM:
                record = self._record(kept, image, polarity, prediction, reason)
                if collected.write(self._folder, image, record):
                    self._collected.labels(reason).inc()

    def _record(
        self, kept: _Kept, image: bytes, polarity: str | None, prediction: Mapping[str, Any], reason: str
    ) -> Any:
        near = prediction["neighbours"]
        threshold, features_threshold = self._predictor.thresholds
        return collected.Collected(
            digest=collected.digest_of(image),
            requests=(kept.id,),
            time=datetime.fromtimestamp(kept.time, UTC).isoformat(timespec="milliseconds"),
            model=self._predictor.name,
            version=self._predictor.version,
            label=prediction["label"],
            nearest=near[0]["label"] if near else None,
            distance=prediction["distance"],
            threshold=threshold,
            features_distance=prediction["features_distance"],
            features_threshold=features_threshold,
            unknown_by=tuple(prediction["unknown_by"]),
            reason=reason,
            random=kept.drawn,
            polarity=polarity,
            bytes=len(image),
            content_type=next((kind for start, kind in _SIGNATURES if image.startswith(start)), _OTHER_TYPE),
        )

    def _drop(self, cause: str, why: str) -> None:
        self._dropped.labels(cause).inc()
        if (said := f"{cause}: {why}") not in self._said:
            self._said.add(said)
            text = "images cannot be kept in %s (%s); answers go on, and serving_collect_dropped_total counts"
            logging.getLogger(__name__).warning(text, self._folder, why)


def _size(request: Any) -> int:
    return _REQUEST_BYTES + len(request.body) + sum(map(len, (request.form or {}).values()))
