"""Joins the answers that two versions gave to the same requests, by the request's id; reads the lines of the logs.

Each request has up to four lines: the door's and the worker's, of the client's answer and of the copy's.
"""

import json
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock
from typing import Any

from serving.shadow.judge import Figures

_LONGEST = 20_000  # requests that wait for more lines: some seconds of them
_TIMES = 50_000  # times that are kept, the latest
UNKNOWN = "unknown"


@dataclass
class _Pair:
    """One request: status and seconds by the door, labels by the workers."""

    live: tuple[int, float] | None = None
    copy: tuple[int, float] | None = None
    labels_old: list[str] | None = None
    labels_new: list[str] | None = None
    is_ambiguous: bool = False  # a client uses an id again

    def put(self, slot: str, value: Any) -> None:
        if getattr(self, slot) is not None:
            self.is_ambiguous = True
        setattr(self, slot, value)

    @property
    def is_complete(self) -> bool:
        if self.live is None or self.copy is None:
            return False
        both = self.live[0] == self.copy[0] == HTTPStatus.OK
        return not both or (self.labels_old is not None and self.labels_new is not None)


class Comparison:
    """Counts while lines arrive, from several threads.

    Args:
        old: The version that answers the clients.
        new: The version that gets copies.
    """

    def __init__(self, old: str, new: str) -> None:
        self._slots = {old: "labels_old", new: "labels_new"}
        self._pairs: OrderedDict[str, _Pair] = OrderedDict()
        self._figures = Figures(seconds_old=deque(maxlen=_TIMES), seconds_new=deque(maxlen=_TIMES))
        self._lock = Lock()

    def add_live(self, lines: bytes) -> None:
        """Take lines of the door's access log."""
        for line in _objects(lines):
            self._put(line["request_id"], "live", (line["status"], _seconds(line["upstream_seconds"])))

    def add_copies(self, lines: bytes) -> None:
        """Take lines of the door's log of copies."""
        for line in _objects(lines):
            if line["upstream_status"]:
                self._put(line["request_id"], "copy", (line["status"], _seconds(line["upstream_seconds"])))
            else:
                with self._lock:
                    self._figures.dropped += 1

    def add_labels(self, lines: bytes) -> None:
        """Take lines of the workers' request log."""
        for line in _objects(lines):
            slot = self._slots.get(line.get("version", ""))
            if slot and "labels" in line and "client_request_id" in line:
                self._put(line["client_request_id"], slot, line["labels"])

    def figures(self) -> Figures:
        """End: what was counted, with the requests that still lack lines."""
        with self._lock:
            while self._pairs:
                self._count(self._pairs.popitem(last=False)[1])
            return self._figures

    def _put(self, request: str, slot: str, value: Any) -> None:
        with self._lock:
            pair = self._pairs.setdefault(request, _Pair())
            pair.put(slot, value)
            if pair.is_complete:
                self._count(self._pairs.pop(request))
            elif len(self._pairs) > _LONGEST:
                self._count(self._pairs.popitem(last=False)[1])

    def _count(self, pair: _Pair) -> None:
        if pair.copy is None:
            return  # it was not copied, or the copy was dropped
        figures = self._figures
        figures.copies += 1
        (live, seconds_old), (copy, seconds_new) = pair.live or (HTTPStatus.OK, 0.0), pair.copy
        figures.failed += copy != HTTPStatus.OK and live == HTTPStatus.OK and not _is_lost(pair)
        if not pair.live or not live == copy == HTTPStatus.OK:
            return
        figures.seconds_old.append(seconds_old)  # type: ignore[attr-defined]
        figures.seconds_new.append(seconds_new)  # type: ignore[attr-defined]
        if pair.is_ambiguous or pair.labels_old is None or pair.labels_new is None:
            return
        figures.compared += 1
        figures.equal += pair.labels_old == pair.labels_new
        figures.images += len(pair.labels_old)
        figures.unknown_old += pair.labels_old.count(UNKNOWN)
        figures.unknown_new += pair.labels_new.count(UNKNOWN)


def _is_lost(pair: _Pair) -> bool:
    """Whether the client's answer is not known, and the copy's says that the client was wrong."""
    return pair.live is None and pair.copy is not None and pair.copy[0] < HTTPStatus.INTERNAL_SERVER_ERROR


def _objects(lines: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects among lines; a torn one is left out."""
    for line in lines.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _seconds(text: str) -> float:
    """The sum of the times that nginx gives: one for each try, with commas or colons between them."""
    times = text.replace(":", ",").split(",")
    return sum(float(each) for each in times if each.strip() not in ("", "-"))
