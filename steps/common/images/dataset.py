"""One split of a dataset, `<data volume>/dataset/<id>/`: `labels.npy`, `classes.json`, `rows.json`, `pixels.json`.

`rows.json` has a list for each of `names`, `keys`, `groups` and `originals`, an entry an image. The pixels lie in
`<data volume>/pixels/`, in the folder that `pixels.json` names, under their content keys: splits share them.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steps.common.images import places
from steps.common.images.stored import StoredImages, read_ahead, shards_of
from steps.common.store import read
from steps.common.volumes import data_volume

KIND = places.KIND
_ROWS = "rows.json"
_PNG = "png:"


@dataclass
class Rows:
    """What is known of each image of a split, beside its pixels and its label.

    Its name for messages; the content key of its decoded pixels; the group that it belongs to, near copies above all;
    and its original: the path of its file below the data volume, or a PNG in base64 after `png:`. The original is empty
    where the pixels of the split are the image as its source gave it.
    """

    names: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    originals: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, H, W, C]; labels int64 [N], numbers of classes; and what is known of each."""

    path: Path
    labels: NDArray[np.int64]
    classes: list[str]
    rows: Rows

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """A name for each image, for messages."""
        return self.rows.names

    @cached_property
    def images(self) -> StoredImages:
        """Its images uint8 [N, H, W, C], read by rows; StepError if some are not there, or were changed."""
        folder = json.loads((self.path / places.FORMAT).read_text())["folder"]
        return StoredImages(shards_of(self.path.parents[1] / places.PIXELS / folder), self.rows.keys)

    def batches(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order, uint8 [size, H, W, C] at a time and the last fewer; the next are read ahead."""
        return read_ahead(self.images, (slice(start, start + size) for start in range(0, len(self), size)))

    def original(self, row: int) -> bytes | None:
        """The image file that a row came from; None if it is not there any more, or the row itself is the original."""
        text = self.rows.originals[row]
        if text.startswith(_PNG):
            return base64.b64decode(text.removeprefix(_PNG))
        try:
            return (data_volume() / text).read_bytes() if text else None
        except OSError:
            return None


def png_original(data: bytes) -> str:
    """What stands in `originals` for an image that has no file of its own, of its PNG."""
    return _PNG + base64.b64encode(data).decode()


def read_split(id: str) -> Split:
    """The split of this id; StepError if a file is missing or was changed.

    Args:
        id: The id, as preprocess gave it.

    Returns:
        The split, its files checked against their SHA-256. Its images are checked when they are read.
    """
    return open_split(read(data_volume(), KIND, id).path)


def open_split(path: Path) -> Split:
    """The split in this folder."""
    rows = Rows(**json.loads((path / _ROWS).read_text()))
    return Split(path, np.load(path / "labels.npy"), json.loads((path / "classes.json").read_text()), rows)


def write_split(folder: Path, labels: Sequence[str], rows: Rows, pixels: str) -> None:
    """Write a split's files.

    Args:
        folder: Where they go.
        labels: The label of each image.
        rows: What else is known of each, in the same order.
        pixels: The name of the folder of shards that hold its images.
    """
    classes = sorted(set(labels))
    number = {label: i for i, label in enumerate(classes)}
    np.save(folder / "labels.npy", np.array([number[label] for label in labels], np.int64))
    (folder / "classes.json").write_text(json.dumps(classes))
    (folder / _ROWS).write_text(json.dumps(rows.__dict__))
    (folder / places.FORMAT).write_text(json.dumps({"folder": pixels}))
