"""A worker's metrics, and its log line for each request. Part of the model archive.

Writes Prometheus's multiprocess files to PROMETHEUS_MULTIPROC_DIR and lines to the named pipe REQUEST_LOG, if set.
"""

import collections
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, values

# POSIX: writes of up to this size are atomic; longer ones may mix with those of other workers.
_PIPE_BUF = 4096
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
# Kinds of requests that are not clients': health checks, and copies for a version that is shadowed.
PROBE, SHADOW = "probe", "shadow"
_DISTANCES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)


class Telemetry:
    """Counts and logs the requests of one version."""

    def __init__(self, version: str) -> None:
        self._version = version
        folder, process = os.environ.get("PROMETHEUS_MULTIPROC_DIR"), os.getpid()
        if folder:  # a call of the system for each change of a value, otherwise
            values.ValueClass = values.MultiProcessValue(lambda: process)  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()  # serving/monitor.py adds up the workers' files
        self._requests = Counter("serving_requests", "Requests by HTTP status", ["status"], registry=registry)
        self._errors = Counter(
            "serving_errors",
            "Requests without an answer, by rule",
            ["rule"],
            registry=registry,
        )
        self._seconds = Histogram(
            "serving_request_seconds",
            "From a batch's arrival at the worker to its answers",
            buckets=_SECONDS,
            registry=registry,
        )
        self._sizes = Histogram("serving_batch_size", "Requests a batch", buckets=_BATCH_SIZES, registry=registry)
        self._distances = Histogram(
            "serving_nearest_distance",
            "Cosine distance of the nearest neighbour",
            buckets=_DISTANCES,
            registry=registry,
        )
        self._predictions = Counter("serving_predictions", "Images by label", ["label"], registry=registry)
        self._unknown = Counter(
            "serving_unknown", "Images by the distance that made them unknown", ["by"], registry=registry
        )
        self._probes = Counter(
            "serving_probes", "Predictions for health checks, not in the other metrics", registry=registry
        )
        self._dropped = Counter("serving_log_lines_dropped", "Requests not logged", registry=registry)
        _allocate(folder)
        pipe = os.environ.get("REQUEST_LOG")
        self._unlogged: list[tuple[float, float, list[tuple[Any, tuple[str, str]]]]] = []
        self._pipe = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK) if pipe and Path(pipe).is_fifo() else None

    def record(
        self, answers: Sequence[Any], ids: Sequence[tuple[str, str]], seconds: float, kinds: Sequence[str]
    ) -> None:
        """Count one batch, and keep what is to be logged of it.

        Args:
            answers: The predictor's answers.
            ids: TorchServe's request id and the client's own, for each answer.
            seconds: The time that the whole batch took.
            kinds: Of each request: PROBE, which is only counted as such; SHADOW, which is only logged; or none.
        """
        if probes := sum(kind == PROBE for kind in kinds):
            self._probes.inc(probes)
        self._count([answer for answer, kind in zip(answers, kinds, strict=True) if not kind], seconds)
        logged = [each[:2] for each in zip(answers, ids, kinds, strict=True) if each[2] != PROBE]
        if self._pipe is not None and logged:
            self._unlogged.append((time.time(), seconds, logged))

    def log(self) -> None:
        """Log the requests of the batches that were recorded since the last call."""
        if self._pipe is not None:
            while self._unlogged:
                self._log(self._pipe, *self._unlogged.pop(0))

    def _count(self, answers: Sequence[Any], seconds: float) -> None:
        if not answers:
            return
        self._sizes.observe(len(answers))
        predictions = [each for answer in answers for each in answer.predictions]
        _count(self._requests, [answer.status for answer in answers])
        _count(self._errors, [answer.rule for answer in answers if answer.rule])
        _count(self._predictions, [label for label, _, _ in predictions])
        _count(self._unknown, [by for _, _, reasons in predictions for by in reasons])
        for _ in answers:
            self._seconds.observe(seconds)
        for _, distance, _ in predictions:
            if distance is not None:
                self._distances.observe(distance)

    def _log(self, pipe: int, at: float, seconds: float, logged: Sequence[tuple[Any, tuple[str, str]]]) -> None:
        said = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        piece = b""
        for answer, (request_id, client_id) in logged:
            line: dict[str, Any] = {"time": said, "level": "INFO", "logger": "requests", "request_id": request_id}
            if client_id:
                line["client_request_id"] = client_id
            line |= {"status": answer.status, "ms": round(1000 * seconds, 2), "batch": len(logged)}
            line["version"] = self._version
            if answer.rule:
                line["rule"] = answer.rule
            else:
                line["labels"], line["distances"], _ = zip(*answer.predictions, strict=True)
            written = json.dumps(line).encode() + b"\n"
            if len(piece) + len(written) > _PIPE_BUF:
                self._put(pipe, piece)
                piece = b""
            piece += written
        self._put(pipe, piece)

    def _put(self, pipe: int, piece: bytes) -> None:
        try:
            if len(piece) > _PIPE_BUF:
                raise BlockingIOError
            if piece:
                os.write(pipe, piece)
        except OSError:  # the reader is too slow or gone
            self._dropped.inc(piece.count(b"\n"))


def _count(counter: Counter, values: Sequence[Any]) -> None:
    """Add up a batch's values first: each increment of a counter is a write to a file."""
    for value, times in collections.Counter(values).items():
        counter.labels(value).inc(times)


def _allocate(folder: str | None) -> None:
    """Allocate this process's metric files: they are memory-mapped, and writing without disk space raises SIGBUS."""
    for path in Path(folder).glob(f"*_{os.getpid()}.db") if folder and hasattr(os, "posix_fallocate") else ():
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
