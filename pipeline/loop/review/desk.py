"""What the page shows and does, as values that JSON takes: joins the queue, the suspects and the served model."""

import os
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from contract.loop.collected import Collected
from contract.loop.labels import Action
from contract.pointer import pointer_path
from pipeline.loop.errors import LabelError
from pipeline.loop.labels import SUSPECTS, Book
from pipeline.loop.placing import PARTS
from pipeline.loop.review.neighbours import Model, Neighbour, served
from pipeline.loop.review.pictures import LARGE, SMALL, picture
from pipeline.loop.review.queue import QUEUES, Queue
from pipeline.loop.review.suspects import Suspect, Suspects
from steps.common.images.decode import BadImage
from steps.common.statistics.interval import wilson
from steps.common.volumes import data_volume, deploy_volume

AT_ONCE = 50  # images of the grid
_AHEAD = 3  # images that the page is told of, so that the next ones are there when they are asked for
_PICTURES = 256  # that are kept in memory

_TOLD = (
    "digest",
    "label",
    "nearest",
    "distance",
    "threshold",
    "features_distance",
    "features_threshold",
    "version",
    "time",
    "random",
)


class Desk:
    """What one review works on.

    Args:
        queue: The collected images.
        book: Where decisions are written.
        source: The name of `data.source`.
        max_pixels: A larger image is not decoded.
    """

    def __init__(self, queue: Queue, book: Book, source: str, max_pixels: int) -> None:
        self._queue, self._book, self._source, self._max_pixels = queue, book, source, max_pixels
        self._suspects = Suspects(book)
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] = ()
        self._known = Model()
        self.picture = lru_cache(_PICTURES)(self._picture)
        self.neighbours = lru_cache(_PICTURES)(self._neighbours)

    def state(self) -> dict[str, Any]:
        """How much waits in each list, the labels, and what was measured."""
        self._queue.look()
        model = self.model
        waiting = self._suspects.waiting()
        return {
            "queues": {**self._queue.counts(), SUSPECTS: len(waiting)},
            "answers": self._queue.answers(),
            "labels": self._labels(model),
            "parts": PARTS,
            "source": self._source,
            "folder": str(data_volume() / "images"),
            "version": model.version,
            "pictures": model.thumbnails[1] if model.thumbnails else None,
            "measured": self._measured(model),
        }

    def next(self, queue: str) -> list[dict[str, Any]]:
        """The first images of a list.

        Args:
            queue: One of QUEUES, or SUSPECTS.

        Returns:
            What is known of each.

        Raises:
            LabelError: There is no such list.
        """
        if queue == SUSPECTS:
            return [_suspect(each) for each in self._suspects.waiting()]
        if queue not in QUEUES:
            raise LabelError(f"there is no list {queue!r}: choose one of {', '.join((*QUEUES, SUSPECTS))}")
        self._queue.look()
        return [_shown(each) for each in self._queue.first(queue, _AHEAD)]

    def grid(self, answer: str) -> list[dict[str, Any]]:
        """Images with the same answer."""
        self._queue.look()
        return [_shown(each) for each in self._queue.answered(answer, AT_ONCE)]

    def about(self, digest: str) -> dict[str, Any]:
        """The nearest images of the gallery, as the served model sees it."""
        try:
            near = self.neighbours(digest, self.model)
        except BadImage:
            near = []
        return {"neighbours": [vars(each) for each in near]}

    def sheet(self) -> bytes | None:
        """The small pictures of the gallery; None if the model has none."""
        thumbnails = self.model.thumbnails
        return thumbnails[0] if thumbnails else None

    def decide(self, order: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Do what the page asks for.

        Args:
            order: `action`, `digests`, `label`, `part` and `queue`.

        Returns:
            The id of each line, with the digest of its image.

        Raises:
            LabelError: It cannot be done, and nothing was changed.
        """
        action, queue, label = (str(order.get(name, "")) for name in ("action", "queue", "label"))
        digests = _texts(order.get("digests"))
        if not digests or len(digests) > AT_ONCE:
            raise LabelError(f"{len(digests)} images cannot be decided about at once: choose 1 to {AT_ONCE}")
        if queue == SUSPECTS:
            lines = [self._suspects.decide(digest, label) for digest in digests]
        elif action == Action.LABEL:
            lines = self._queue.label(digests, label, str(order.get("part", "")), queue)
        elif action in (Action.NOT_OURS, Action.SKIP) and len(digests) == 1:
            lines = self._queue.note(digests[0], Action(action), queue)
        else:
            raise LabelError(f"{action!r} of {len(digests)} images is nothing that this page does")
        return [{"id": line.id, "digest": line.digest} for line in lines]

    def undo(self, ids: Any) -> list[str]:
        """Take decisions back; the digests of their images. LabelError if that cannot be done."""
        return [line.digest for line in self._queue.undo(_texts(ids)[:AT_ONCE])]

    @property
    def model(self) -> Model:
        """The model that is served now: read again if the pointer is another one."""
        try:
            found = os.stat(pointer_path(deploy_volume()))
            stamp: tuple[int, ...] = (found.st_mtime_ns, found.st_ino, found.st_size)
        except OSError:
            stamp = (0,)
        with self._lock:
            if stamp != self._stamp:
                self._known, self._stamp = served(), stamp
                self._queue.serve(self._known.version)
                self._book.know(self._known.labels)
            return self._known

    def _labels(self, model: Model) -> list[str]:
        return sorted({*model.labels, *self._book.known_labels()})

    def _measured(self, model: Model) -> dict[str, Any] | None:
        found = self._book.measured(model.version or "")
        if not found.images:
            return None
        interval = wilson(found.right, found.images)
        return {**vars(found), "accuracy": found.accuracy, "low": interval.low, "high": interval.high}

    def _picture(self, digest: str, *, is_small: bool, is_suspect: bool) -> bytes:
        """A PNG of an image; LabelError or BadImage without one."""
        data = self._suspects.find(digest).data if is_suspect else self._queue.image(digest)
        return picture(data, SMALL if is_small else LARGE, self._max_pixels)

    def _neighbours(self, digest: str, model: Model) -> Sequence[Neighbour]:
        return model.near(self._queue.image(digest), self._queue.record(digest).polarity, self._max_pixels)


def _shown(record: Collected) -> dict[str, Any]:
    """What the page says of an image."""
    return {name: getattr(record, name) for name in _TOLD}


def _suspect(suspect: Suspect) -> dict[str, Any]:
    return {name: getattr(suspect, name) for name in ("digest", "name", "label", "neighbours", "fixed")}


def _texts(value: Any) -> list[str]:
    """A list of different texts; LabelError if it is something else."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LabelError("a list of texts is missing")
    return list(dict.fromkeys(value))
