"""The labels that people gave in review: the types of `<data volume>/labels.jsonl`, a JSON object a line.

No line is ever changed. What holds follows from their order: of an image the last decision that was not undone. A
label's image lies in `<data volume>/images/`, at the line's `file`; a label whose file is gone holds no more.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from contract.errors import InputError
from contract.loop.collected import UNKNOWN
from contract.pointer import DAMAGE


class Action(StrEnum):
    """What was decided about an image, or that this was taken back."""

    LABEL = "label"  # its class
    NOT_OURS = "not-ours"  # it is of no class
    SKIP = "skip"  # nothing yet
    KEEP = "keep"  # the label that it has in the data set is right
    MOVE = "move"  # that label was wrong
    UNDO = "undo"


@dataclass(frozen=True)
class Before:
    """What the server answered: the label, the version, and the distance of the nearest neighbour."""

    label: str
    version: str
    distance: float | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the file.

    Attributes:
        id: Of this line, for `undoes`.
        at: When, ISO 8601 in UTC.
        by: Who.
        action: What was decided.
        digest: SHA-256 of the image as it was sent, or of the file in the data set.
        label: The class, of LABEL, KEEP and MOVE.
        file: Of LABEL and MOVE the image's path below `images/`: `<part>/<label>/<name>`.
        was: Of MOVE its path before; of KEEP its name in the data set.
        queue: The list in which it was shown.
        random: Whether it was drawn at random from all that was sent.
        before: What the server answered; None of an image of the data set.
        passed: Digests of images that count for the measured accuracy from now on, see `Labels.measured`.
        undoes: Of UNDO the id of the line.
    """

    id: str
    at: str
    by: str
    action: Action
    digest: str
    label: str = ""
    file: str = ""
    was: str = ""
    queue: str = ""
    random: bool = False
    before: Before | None = None
    passed: tuple[str, ...] = ()
    undoes: str = ""

    @classmethod
    def parsed(cls, text: bytes) -> Self | None:
        """The line in JSON; None if a crash tore it, or a later version of this project wrote it."""
        try:
            content = json.loads(text)
            values: dict[str, Any] = {each.name: content[each.name] for each in fields(cls) if each.name in content}
            values["action"] = Action(values["action"])
            values["passed"] = tuple(map(str, values.get("passed", ())))
            values["before"] = Before(**values["before"]) if values.get("before") else None
            return cls(**values)
        except DAMAGE:
            return None

    def encoded(self) -> bytes:
        """The line with its end; what is empty is left out."""
        content = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.before:
            content["before"] = vars(self.before)
        told = {name: value for name, value in content.items() if value not in ("", False, None, ())}
        return json.dumps(told, ensure_ascii=False, allow_nan=False).encode() + b"\n"


@dataclass(frozen=True)
class Measured:
    """How many reviewed images the server answered rightly, of how many; and how many of them were skipped besides."""

    right: int
    images: int
    skipped: int

    @property
    def accuracy(self) -> float:
        """The share of right answers; 0 of none."""
        return self.right / self.images if self.images else 0.0


class Labels:
    """What the lines say, as far as they were read.

    Args:
        volume: The data volume.
    """

    def __init__(self, volume: Path) -> None:
        self._path, self._images = labels_path(volume), volume / "images"
        self._forget()

    def refresh(self) -> set[str]:
        """Read the lines that are new.

        Returns:
            The digests of the images that they are about.

        Raises:
            InputError: The file is there and cannot be read.
        """
        before = self._lines
        try:
            with self._path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                is_other = size < self._read  # another file took its place
                if is_other:
                    self._forget()
                file.seek(self._read)
                text = file.read(size - self._read)
        except FileNotFoundError:
            text, is_other = b"", True
            self._forget()
        except OSError as error:
            raise InputError(
                f"{self._path} cannot be read ({error.strerror}): it is the file of the labels from review; make it "
                "one that this user can read, or move away what is in its place"
            ) from error
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = [line for each in whole.split(b"\n") if (line := Line.parsed(each))]
        for line in lines:
            self._take(line)
        return {line.digest for line in lines} | (before.keys() if is_other else set())

    def of(self, digest: str) -> Line | None:
        """The decision about an image, whether its file is there or not; None without one."""
        lines = self._lines.get(digest)
        return lines[-1] if lines else None

    def before(self, line: Line) -> Line | None:
        """The decision that holds about its image once this one is undone."""
        lines = [each for each in self._lines.get(line.digest, ()) if each.id != line.id]
        return lines[-1] if lines else None

    def line(self, id: str) -> Line | None:
        """The decision of this id, if it was not undone."""
        digest = self._digest_of.get(id, "")
        return next((line for line in self._lines.get(digest, ()) if line.id == id), None)

    def is_there(self, line: Line) -> bool:
        """Whether a label's image is in its folder; other decisions have none."""
        return not line.file or (self._images / line.file).exists()

    def files(self) -> Iterator[str]:
        """The path below `images/` of each image that has a label from review, whether it is there or not."""
        for lines in self._lines.values():
            if lines and lines[-1].action is Action.LABEL:
                yield lines[-1].file

    def decided(self) -> Iterator[Line]:
        """The decision about each image that has one."""
        return (lines[-1] for lines in self._lines.values() if lines)

    def has_passed(self, digest: str) -> bool:
        """Whether an image counts for the measured accuracy."""
        return digest in self._passed

    def measured(self, version: str) -> Measured:
        """The accuracy of a version, measured on images that were drawn at random from all that was sent.

        An image counts once it has passed: once all images that were drawn before it are decided, too. So it does not
        matter which ones are looked at first, or where somebody stops.

        Args:
            version: The version that answered.

        Returns:
            The counts. A label is right if it is the answer; an image of no class was answered rightly as `unknown`.
        """
        return self.measured_of_all().get(version, Measured(0, 0, 0))

    def measured_of_all(self) -> dict[str, Measured]:
        """What was measured of each version that answered an image that counts, as `measured` gives it."""
        found: dict[str, Measured] = {}
        for line in map(self.of, self._passed):
            if line is None or line.before is None:
                continue
            known = found.get(line.before.version, Measured(0, 0, 0))
            right = line.before.label == (UNKNOWN if line.action is Action.NOT_OURS else line.label)
            found[line.before.version] = (
                replace(known, skipped=known.skipped + 1)
                if line.action is Action.SKIP
                else replace(known, images=known.images + 1, right=known.right + right)
            )
        return found

    def _forget(self) -> None:
        self._read = 0
        self._lines: dict[str, list[Line]] = {}
        self._digest_of: dict[str, str] = {}
        self._passed: set[str] = set()

    def _take(self, line: Line) -> None:
        self._passed.update(line.passed)
        if line.action is not Action.UNDO:
            self._lines.setdefault(line.digest, []).append(line)
            self._digest_of[line.id] = line.digest
        elif undone := self.line(line.undoes):
            self._lines[undone.digest].remove(undone)


def labels_path(volume: Path) -> Path:
    """The file on the data volume."""
    return volume / "labels.jsonl"
