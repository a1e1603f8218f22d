"""Writes what was decided in review: images to `<data volume>/images/`, lines to `<data volume>/labels.jsonl`.

An image comes before its line, and goes before the line that takes it back. So a crash between the two leaves an image
with the label that a person gave it, or none, and in both cases `Labels` shows it as undecided: the next decision about
it puts that right. Whoever writes holds a lock; readers need none.
"""

import hashlib
import io
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from PIL import Image, ImageOps

from contract import files
from contract.errors import InputError
from contract.labels import UNKNOWN, Action, Before, Labels, Line, Measured, labels_path
from pipeline.copied import Copied
from steps.common.files import readable_by_all, writing
from steps.common.images.decode import BadImage, read_header, upright
from steps.common.volumes import data_volume
from steps.deploy.release.actor import now, who
from steps.preprocess.sources.scan import label_of

TRAIN, GALLERY = "train", "gallery"
PARTS = (TRAIN, GALLERY)  # where a label's image may go
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}  # others are named as their format
_GREY = ("1", "L", "LA", "La")
_STAGE = "labelling"  # on the data volume: what is on its way into the folders, or out of them
_LONGEST = 200  # bytes of a label, which names a folder


class LabelError(InputError):
    """A decision that cannot be taken; the message says why, and nothing was changed."""


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
        others: Labels that are known besides those that have a folder of images.

    Attributes:
        images: The folder of the images.
        labels: What is decided.
    """

    def __init__(self, polarity: str, max_pixels: int, others: Iterable[str] = ()) -> None:
        self._volume, self._polarity, self._max_pixels = data_volume(), polarity, max_pixels
        self._others, self._changed = frozenset(others), set[str]()
        self.images = self._volume / "images"
        self.labels = Labels(self._volume)
        self._here = threading.Lock()  # a lock on a file is one for all threads of a process
        self._lock = FileLock(self._volume / "labels.lock", fallback_to_soft=False, thread_local=False)
        with self._alone():
            shutil.rmtree(self._stage, ignore_errors=True)  # left by a crash

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
            folder = self._folder(part, self._checked(label))
            images = [self._image_of(each) for each in given]
            with self._undone_on_error() as undo:
                lines = []
                for each, (name, data) in zip(given, images, strict=True):
                    file = f"{folder}/{name}"
                    self._put(each.digest, file, data, undo)
                    lines.append(self._line(each, Action.LABEL, label=label_of(label), file=file))
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
        with self._alone(), self._undone_on_error() as undo:
            for path in self._copies(given.digest, ""):
                self._take_away(path, undo)
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
            line = self._new(Action.KEEP, digest, label=label, was=name, queue="suspects")
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
            path = self.images / name
            self._check_movable(name)
            folder = self._folder(name.partition("/")[0], self._checked(label))
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            target = f"{folder}/{path.name}"
            if (self.images / target).exists():
                target = f"{folder}/{path.stem}-{digest[:8]}{path.suffix}"
            own = next((line for line in self.labels.decided() if line.file == name), None)
            with self._undone_on_error() as undo:
                self._rename(name, target, undo)
                if own and own.action is Action.LABEL:  # which came from review
                    line = self._new(Action.LABEL, own.digest, label=label_of(label), file=target, queue="suspects")
                else:
                    line = self._new(Action.MOVE, digest, label=label_of(label), file=target, was=name)
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
            with self._undone_on_error() as undo:
                for line in undone:
                    self._put_back(line, undo)
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

    def known_labels(self) -> set[str]:
        """The labels that there are."""
        return self._others | {label_of(path.name) for part in PARTS for path in self._folders(part)}

    def is_open(self, digest: str) -> bool:
        """Whether an image waits for a decision: it has none, or a label whose image is gone."""
        line = self.labels.of(digest)
        return line is None or not self.labels.is_there(line)

    @property
    def _stage(self) -> Path:
        return self._volume / _STAGE

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """As the only writer, with all lines read."""
        with self._here, writing(self._volume), self._lock, readable_by_all():
            self._changed |= self.labels.refresh()
            yield

    @contextmanager
    def _undone_on_error(self) -> Iterator[list[Callable[[], object]]]:
        """Collect what takes each step back, and do it if a later one fails."""
        steps: list[Callable[[], object]] = []
        try:
            yield steps
        except BaseException:
            for step in reversed(steps):
                step()
            raise
        finally:
            shutil.rmtree(self._stage, ignore_errors=True)

    def _write(self, lines: list[Line], passed: Sequence[str]) -> list[Line]:
        """Append lines at once; the last one says what has passed."""
        lines[-1] = Line(**{**vars(lines[-1]), "passed": tuple(passed)})
        files.append(labels_path(self._volume), b"".join(line.encoded() for line in lines))
        self._changed |= self.labels.refresh()
        return lines

    def _line(self, given: Given, action: Action, label: str = "", file: str = "") -> Line:
        line = self._new(action, given.digest, label=label, file=file, queue=given.queue)
        return Line(**{**vars(line), "random": given.random, "before": given.before})

    def _new(
        self,
        action: Action,
        digest: str,
        *,
        label: str = "",
        file: str = "",
        was: str = "",
        queue: str = "",
        undoes: str = "",
    ) -> Line:
        return Line(
            id=secrets.token_hex(8),
            at=now(),
            by=who(),
            action=action,
            digest=digest,
            label=label,
            file=file,
            was=was,
            queue=queue,
            undoes=undoes,
        )

    def _checked(self, label: str) -> str:
        """The label as it is kept; LabelError if it cannot name a class."""
        kept = label_of(label)
        if not kept or kept.startswith(".") or len(kept.encode()) > _LONGEST:
            raise LabelError(f"{label!r} is no label: it needs 1 to {_LONGEST} bytes, and must not begin with a dot")
        if "/" in kept or not kept.isprintable():
            raise LabelError(f"{label!r} is no label: it must not have a slash or what cannot be printed")
        if kept.casefold() == UNKNOWN:
            raise LabelError(f"{kept!r} is what the server answers for an image of no class: choose another label")
        for other in self.known_labels():
            if other != kept and label_of(other.casefold()) == label_of(kept.casefold()):
                raise LabelError(f"there is the label {other!r} already, which differs only by case: use that one")
        return kept

    def _folders(self, part: str) -> list[Path]:
        try:
            with os.scandir(self.images / part) as entries:
                return [Path(each) for each in entries if each.is_dir() and not each.name.startswith(".")]
        except FileNotFoundError:
            return []

    def _folder(self, part: str, label: str) -> str:
        """The folder of a label below `images/`: the one that is there, however its name is written."""
        there = (path.name for path in self._folders(part) if label_of(path.name) == label)
        return f"{part}/{min(there, default=label)}"

    def _image_of(self, given: Given) -> tuple[str, bytes]:
        """The name and the bytes of an image as the data set has it."""
        try:
            image = read_header(given.data, self._max_pixels)
            if given.polarity in (None, self._polarity):
                suffix = _SUFFIXES.get(str(image.format), f".{str(image.format).lower()}")
                return f"{given.digest}{suffix}", given.data
            inverted = io.BytesIO()
            is_grey = image.mode in _GREY or image.mode.startswith("I")
            ImageOps.invert(upright(image, "L" if is_grey else "RGB")).save(inverted, "PNG")
        except BadImage as error:
            raise LabelError(f"the image cannot be decoded, so it cannot have a label ({error})") from error
        return f"{hashlib.sha256(inverted.getvalue()).hexdigest()}.png", inverted.getvalue()

    def _copies(self, digest: str, name: str) -> list[str]:
        """Where an image is now, below `images/`: at its label's file, and wherever a crash left it."""
        line = self.labels.of(digest)
        names = {name, Path(line.file).name if line else ""} - {""}
        folders = [f"{part}/{path.name}" for part in PARTS for path in self._folders(part)]
        found = [f"{folder}/{each}" for each in names for folder in folders]
        return [file for file in found if (self.images / file).is_file()]

    def _put(self, digest: str, file: str, data: bytes, undo: list[Callable[[], object]]) -> None:
        """Bring an image to its file, from where it was or from its bytes, and let no copy stand elsewhere."""
        for path in self._copies(digest, Path(file).name):
            if path == file:
                continue
            if (self.images / file).exists():
                self._take_away(path, undo)
            else:
                self._rename(path, file, undo)
        target = self.images / file
        if target.exists():
            return
        self._stage.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._stage, delete=False) as staged:
            staged.write(data)
            staged.flush()
            os.fchmod(staged.fileno(), 0o644)
            os.fsync(staged.fileno())
        undo.append(lambda: target.unlink(missing_ok=True))
        self._bring(Path(staged.name), target)

    def _take_away(self, file: str, undo: list[Callable[[], object]]) -> None:
        """Take an image out of the data set; it is deleted when all is written."""
        self._stage.mkdir(exist_ok=True)
        path, staged = self.images / file, self._stage / secrets.token_hex(8)
        undo.append(lambda: os.replace(staged, path))
        os.replace(path, staged)
        files.sync(path.parent)

    def _rename(self, file: str, to: str, undo: list[Callable[[], object]]) -> None:
        here, there = self.images / file, self.images / to
        self._bring(here, there)
        undo.append(lambda: os.replace(there, here))
        files.sync(here.parent)

    def _bring(self, path: Path, target: Path) -> None:
        """Rename a file into a folder, which is made if it is not there."""
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True)
            files.sync(target.parent.parent)
        os.replace(path, target)
        files.sync(target.parent)

    def _check_movable(self, name: str) -> None:
        parts = Path(name).parts
        if len(parts) != 3 or ".." in parts or not (self.images / name).is_file():
            raise LabelError(f"{name} is no file in {self.images}, so it cannot be moved")
        copied = Copied.read()
        if name in copied.files:
            raise LabelError(f"{name} is a copy from {copied.folder}: move the original there, and run with IMAGES again")

    def _last(self, id: str) -> Line:
        line = self.labels.line(id)
        if line is None:
            raise LabelError("that was taken back already")
        if self.labels.of(line.digest) != line:
            raise LabelError("somebody has decided about this image again since: take that back first")
        return line

    def _put_back(self, line: Line, undo: list[Callable[[], object]]) -> None:
        """Bring an image of a decision back to where it was before."""
        before = self.labels.before(line)
        to = line.was if line.action is Action.MOVE else before.file if before else ""
        if line.file and not (self.images / line.file).exists():
            if line.action is Action.MOVE:
                raise LabelError(f"{line.file} is not there any more, so it cannot be moved back")
        elif not line.file or line.file == to:
            return
        elif not to:
            self._take_away(line.file, undo)
        elif (self.images / to).exists():
            raise LabelError(f"there is another file at {to}, so nothing was moved back")
        else:
            self._rename(line.file, to, undo)
