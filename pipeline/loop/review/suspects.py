"""Images of the data set that may be mislabelled, as the last run's analysis found them: reads what that stored."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.loop.labels import Action, Line
from pipeline.copied import Copied
from pipeline.loop.errors import LabelError
from pipeline.loop.labels import Book
from steps.analyse.advice.findings import FILE, LABELS
from steps.common.images.dataset import KIND, Split, open_split
from steps.common.images.png import encode_png
from steps.common.store import look
from steps.common.volumes import data_volume, model_volume

_LOOK_SECONDS = 10.0  # from one look for a newer run to the next
_BELOW = "images/"  # where files of the data volume are, as a split names them


@dataclass(frozen=True)
class Suspect:
    """An image whose neighbours in the gallery agree on another label.

    Attributes:
        name: In the data set: of a file its path below `images/`.
        digest: SHA-256 of its file.
        label: The label that it has.
        neighbours: That of its neighbours.
        fixed: Why its file cannot be moved, in words; empty if it can.
        data: The bytes of its file.
    """

    name: str
    digest: str
    label: str
    neighbours: str
    fixed: str
    data: bytes


class Suspects:
    """The images of the last run that may be mislabelled, and what is decided about them.

    Args:
        book: Where decisions are written.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._of: Path | None = None
        self._looked = 0.0
        self._found: dict[str, Suspect] = {}

    def waiting(self) -> list[Suspect]:
        """Those that nobody has decided about, the worst first."""
        if not self._looked or time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked, last = time.monotonic(), _last_evaluation()
            if last != self._of:
                self._of, self._found = last, _read(last) if last else {}
        return [each for each in self._found.values() if self._is_open(each)]

    def find(self, digest: str) -> Suspect:
        """One of them.

        Args:
            digest: SHA-256 of its file.

        Returns:
            The image.

        Raises:
            LabelError: There is none.
        """
        if digest not in self._found:
            self.waiting()
        if digest not in self._found:
            raise LabelError("the last run does not suspect this image's label")
        return self._found[digest]

    def decide(self, digest: str, label: str) -> Line:
        """Note that the label is right, or move the file to another label's folder.

        Args:
            digest: SHA-256 of its file.
            label: The right label.

        Returns:
            The line.

        Raises:
            LabelError: The file cannot be moved, or not to this label.
        """
        found = self.find(digest)
        if label == found.label:
            return self._book.keep(found.name, found.digest, label)
        if found.fixed:
            raise LabelError(found.fixed)
        return self._book.move(found.name, label)

    def _is_open(self, suspect: Suspect) -> bool:
        line = self._book.labels.of(suspect.digest)
        decided = line is not None and line.action in (Action.KEEP, Action.MOVE)
        return not decided and (bool(suspect.fixed) or (self._book.images / suspect.name).exists())


def _last_evaluation() -> Path | None:
    """The evaluation that the last verdict is on; None without one."""
    verdicts = [verdict for path in (model_volume() / "verdict").glob("[!.]*") if (verdict := look(path))]
    for verdict in sorted(verdicts, key=lambda verdict: str(verdict.manifest["created"]), reverse=True):
        evaluation = model_volume() / "evaluation" / str(verdict.manifest["inputs"]["evaluation"])
        if (evaluation / FILE).exists():
            return evaluation
    return None


def _read(evaluation: Path) -> dict[str, Suspect]:
    """What an evaluation suspects, by digest, as far as the images are still there."""
    findings = json.loads((evaluation / FILE).read_text())
    listed = [image for finding in findings if finding["about"] == LABELS for image in finding["images"]]
    made = look(evaluation)
    if not listed or made is None:
        return {}
    ids = _splits(made.manifest["inputs"])
    splits = {name: _opened(ids[name]) for name in {image["split"] for image in listed} if name in ids}
    copied, found = Copied.read(), dict[str, Suspect]()
    for image in listed:
        split = splits.get(image["split"])
        if split is None or image["name"] not in split.names:
            continue
        row = split.names.index(image["name"])
        kept = split.rows.originals[row]
        data = split.original(row) if kept else encode_png(split.images[row])
        if data is not None:  # its file is there
            digest = hashlib.sha256(data).hexdigest()
            name = kept.removeprefix(_BELOW) if kept.startswith(_BELOW) else ""
            fixed = _fixed(image["name"], name, copied)
            shown = name or image["name"]
            found[digest] = Suspect(shown, digest, image["label"], image["neighbours"], fixed, data)
    return found


def _splits(inputs: Mapping[str, Any]) -> dict[str, str]:
    """The ids of the splits that an evaluation has to do with, as far as they are there."""
    network = look(model_volume() / "network" / inputs["network"])
    index = look(model_volume() / "index" / inputs["index"])
    embeddings = look(model_volume() / "embeddings" / index.manifest["inputs"]["embeddings"]) if index else None
    ids = {"test": inputs["test"]}
    ids |= {name: network.manifest["inputs"][name] for name in ("train", "validation")} if network else {}
    return ids | ({"gallery": embeddings.manifest["inputs"]["gallery"]} if embeddings else {})


def _opened(id: str) -> Split | None:
    made = look(data_volume() / KIND / id)
    return open_split(made.path) if made else None


def _fixed(name: str, file: str, copied: Copied) -> str:
    """Why an image cannot be moved; `file` is its path below `images/`, if it has one."""
    if not file:
        return f"{name} is an image of a built-in source, whose files cannot be changed: only note that it is right"
    return copied.why_fixed(file)
