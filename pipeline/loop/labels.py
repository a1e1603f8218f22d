"""Writes what was decided in review: images to `<data volume>/images/`, lines to `<data volume>/labels.jsonl`.

What was measured goes to `measured.json` beside the collected images.

An image comes before its line, and goes before the line that takes it back. So a crash between the two leaves an image
with the label that a person gave it, or none, and in both cases `Labels` shows it as undecided: the next decision about
it puts that right. Whoever writes holds a lock; readers need none.
"""

import hashlib
import secrets
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from contract import files
from contract.environment import Environment
from contract.loop import measured
from contract.loop.collected import FOLDER, UNKNOWN
from contract.loop.labels import Action, Before, Labels, Line, Measured, labels_path
from pipeline.copied import Copied
from pipeline.loop.errors import LabelError
from pipeline.loop.placing import PARTS, Placing, as_kept
from steps.common.files import readable_by_all, writing
from steps.common.locks import acquire
from steps.common.volumes import data_volume
from steps.deploy.release.actor import now, who
from steps.preprocess.sources.scan import label_of

SUSPECTS = "suspects"  # the list of images whose labels are in doubt
_LONGEST = 200  # bytes of a label, which names a folder
_JOINERS = "\u200c\u200d"  # within words of Persian and Hindi, and emoji; Python calls them not printable


@dataclass(frozen=True)
class Given:
    """An image that somebody sent.

    Attributes:
        digest: SHA-256 of its bytes.
        data: The bytes.
        polarity: What the client stated; None if nothing.
        before: What the server answered.
        random: Whether it was drawn at random.
        queue: The list in which it was shown.
    """

    digest: str
    data: bytes
    polarity: str | None
    before: Before
    random: bool
    queue: str


class Book:
    """The labels of a data volume, to be written; of the volume that VOLUMES names.

    Args:
        polarity: Of the images in the data set; an image that was sent as the other one is inverted.
        max_pixels: A larger image is not decoded.

    Attributes:
        labels: What is decided.
        is_alone: Whether others who write wait, on whatever node; else one page at a time may.
    """

    def __init__(self, polarity: str, max_pixels: int) -> None:
        self._volume, self._polarity, self._max_pixels = data_volume(), polarity, max_pixels
        self._others, self._changed = frozenset[str](), set[str]()
        self._place = Placing(self._volume)
        self.labels = Labels(self._volume)
        self._here = threading.Lock()  # of the threads of this process
        self._collected, self._was_told = Environment().volumes / FOLDER, True
        with self._alone() as self.is_alone:
            self._place.clean()
            self._tell()

    def label(self, given: Sequence[Given], label: str, part: str, passed: Sequence[str] = ()) -> list[Line]:
        """Give images a label: all of them, or none.

        Args:
            given: The images.
            label: The label.
            part: One of PARTS.
            passed: Digests of images that count for the measured accuracy from now on.

        Returns:
            Their lines.

        Raises:
            LabelError: The label or an image cannot be used.
        """
        if part not in PARTS:
            raise LabelError(f"{part!r} is no part of the data set: choose one of {', '.join(PARTS)}")
        with self._alone():
            kept = self._checked(label)
            folder = self._place.folder(part, kept)
            images = [self._as_kept(each) for each in given]
            with self._place.change():
                lines = []
                for each, (name, data) in zip(given, images, strict=True):
                    file = f"{folder}/{name}"
                    self._place.put(file, data, self._copies(each.digest, name))
                    lines.append(self._line(each, Action.LABEL, label=kept, file=file))
                return self._write(lines, passed)

    def note(self, given: Given, action: Action, passed: Sequence[str] = ()) -> Line:
        """Note that an image is of no class, or skipped; a label that it has goes.

        Args:
            given: The image.
            action: NOT_OURS or SKIP.
            passed: As for `label`.

        Returns:
            The line.
        """
        with self._alone(), self._place.change():
            for file in self._copies(given.digest):
                self._place.take_away(file)
            [line] = self._write([self._line(given, action)], passed)
            return line

    def keep(self, name: str, digest: str, label: str) -> Line:
        """Note that an image of the data set has the right label.

        Args:
            name: Its name in the data set.
            digest: SHA-256 of its file.
            label: Its label.

        Returns:
            The line.
        """
        with self._alone():
            line = self._new(Action.KEEP, digest, label=label, was=name, queue=SUSPECTS)
            [line] = self._write([line], ())
            return line

    def move(self, name: str, label: str) -> Line:
        """Move a file of the data set to the folder of another label.

        Args:
            name: Its path below `images/`.
            label: The right label.

        Returns:
            The line.

        Raises:
            LabelError: The label cannot be used, the file is not there, or it is a copy of one elsewhere.
        """
        with self._alone():
            self._check_movable(name)
            kept, path = self._checked(label), self.images / name
            folder = self._place.folder(name.partition("/")[0], kept)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            target = f"{folder}/{path.name}"
            if self._place.is_there(target):
                target = f"{folder}/{path.stem}-{digest[:8]}{path.suffix}"
            own = next((line for line in self.labels.decided() if line.file == name), None)
            with self._place.change():
                self._place.rename(name, target)
                if own and own.action is Action.LABEL:  # which came from review
                    line = replace(own, **self._signature(), label=kept, file=target, queue=SUSPECTS, passed=())
                else:
                    line = self._new(Action.MOVE, digest, label=kept, file=target, was=name, queue=SUSPECTS)
                [line] = self._write([line], ())
                return line

    def undo(self, ids: Sequence[str]) -> list[Line]:
        """Take decisions back: all of them, or none.

        Args:
            ids: Of their lines.

        Returns:
            The lines that were taken back.

        Raises:
            LabelError: One of them was taken back already, or a later one is about the same image.
        """
        with self._alone():
            undone = [self._last(id) for id in dict.fromkeys(ids)]
            with self._place.change():
                for line in undone:
                    self._put_back(line)
                self._write([self._new(Action.UNDO, each.digest, undoes=each.id) for each in undone], ())
            return undone

    def catch_up(self) -> set[str]:
        """Read what others wrote; the digests of all images that were decided about since the last call."""
        with self._here:
            changed, self._changed = self._changed | self.labels.refresh(), set()
            return changed

    def measured(self, version: str) -> Measured:
        """The measured accuracy of a version, as `Labels.measured`."""
        with self._here:
            return self.labels.measured(version)

    def know(self, labels: Iterable[str]) -> None:
        """Know these labels, besides those that have a folder of images."""
        self._others = frozenset(labels)

    def known_labels(self) -> set[str]:
        """The labels that there are."""
        return {*self._others} | {label_of(path.name) for part in PARTS for path in self._place.folders(part)}

    def is_open(self, digest: str) -> bool:
        """Whether an image waits for a decision: it has none, or a label whose image is gone."""
        line = self.labels.of(digest)
        return line is None or not self.labels.is_there(line)

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return self._place.root

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """As the only writer, with all lines read; yields whether the writers of all nodes wait."""
        lock = FileLock(self._volume / "labels.lock", fallback_to_soft=False)
        with self._here, writing(self._volume), readable_by_all():
            everywhere = acquire(lock)
            try:
                self._changed |= self.labels.refresh()
                yield everywhere
            finally:
                lock.release()

    def _write(self, lines: list[Line], passed: Sequence[str]) -> list[Line]:
        """Append lines at once; the last one says what has passed."""
        lines[-1] = replace(lines[-1], passed=tuple(passed))
        files.append(labels_path(self._volume), b"".join(line.encoded() for line in lines))
        self._changed |= self.labels.refresh()
        self._tell()
        return lines

    def _tell(self) -> None:
        """Write what is measured beside the collected images, for the server's metrics."""
        if not self._collected.is_dir():
            return
        try:
            measured.write(self._collected, self.labels.measured_of_all())
        except OSError as error:
            if self._was_told:
                print(f"the server's metrics do not tell what is measured: {error}", file=sys.stderr)
            self._was_told = False
        else:
            self._was_told = True

    def _line(self, given: Given, action: Action, label: str = "", file: str = "") -> Line:
        line = self._new(action, given.digest, label=label, file=file, queue=given.queue)
        return replace(line, random=given.random, before=given.before)

    def _new(self, action: Action, digest: str, **more: Any) -> Line:
        return Line(**self._signature(), action=action, digest=digest, **more)

    def _signature(self) -> dict[str, Any]:
        """What is of a line alone: its id, when, and who."""
        return {"id": secrets.token_hex(8), "at": now(), "by": who()}

    def _as_kept(self, given: Given) -> tuple[str, bytes]:
        invert = given.polarity not in (None, self._polarity)
        return as_kept(given.digest, given.data, invert=invert, max_pixels=self._max_pixels)

    def _copies(self, digest: str, name: str = "") -> list[str]:
        """Where an image is: at its label's file, and wherever a crash left it."""
        line = self.labels.of(digest)
        return self._place.copies({name, Path(line.file).name if line else ""} - {""})

    def _checked(self, label: str) -> str:
        """The label as it is kept; LabelError if it cannot name a class."""
        kept = label_of(label)
        if not kept or kept.startswith(".") or len(kept.encode()) > _LONGEST:
            raise LabelError(f"{label!r} is no label: it needs 1 to {_LONGEST} bytes, and must not begin with a dot")
        if "/" in kept or kept != kept.strip(_JOINERS) or not _plain(kept).isprintable():
            raise LabelError(f"{label!r} is no label: it must not have a slash or what cannot be printed")
        if kept.casefold() == UNKNOWN:
            raise LabelError(f"{kept!r} is what the server answers for an image of no class: choose another label")
        for other in self.known_labels():
            if other != kept and label_of(other.casefold()) == label_of(kept.casefold()):
                raise LabelError(f"there is the label {other!r} already, which differs only by case: use that one")
        return kept

    def _check_movable(self, name: str) -> None:
        parts = Path(name).parts
        if len(parts) != 3 or ".." in parts or not (self.images / name).is_file():
            raise LabelError(f"{name} is no file in {self.images}, so it cannot be moved")
        if fixed := Copied.read().why_fixed(name):
            raise LabelError(fixed)

    def _last(self, id: str) -> Line:
        line = self.labels.line(id)
        if line is None:
            raise LabelError("that was taken back already")
        if self.labels.of(line.digest) != line:
            raise LabelError("somebody has decided about this image again since: take that back first")
        return line

    def _put_back(self, line: Line) -> None:
        """Bring an image of a decision back to where it was before."""
        before = self.labels.before(line)
        to = line.was if line.action is Action.MOVE else before.file if before else ""
        if line.file == to:
            return
        if not self._place.is_there(line.file):
            if line.action is Action.MOVE:
                raise LabelError(f"{line.file} is not there any more, so it cannot be moved back")
        elif not to:
            self._place.take_away(line.file)
        elif self._place.is_there(to):
            raise LabelError(f"there is another file at {to}, so nothing was moved back")
        else:
            self._place.rename(line.file, to)


def _plain(label: str) -> str:
    return label.translate(dict.fromkeys(map(ord, _JOINERS)))
