"""One split of a dataset, `<data volume>/dataset/<id>/`: `images.npy`, `labels.npy`, `classes.json`, `rows.json`.

`rows.json` has a list for each of `names`, `keys`, `groups` and `originals`, an entry an image.
"""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from steps.common.store import read
from steps.common.volumes import data_volume

KIND = "dataset"
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
    """Images uint8 [N, H, W, C], memory-mapped; labels int64 [N], numbers of classes; and what is known of each."""

    path: Path
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: list[str]
    rows: Rows

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """A name for each image, for messages."""
        return self.rows.names

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
        The split, its files checked against their SHA-256.
    """
    return open_split(read(data_volume(), KIND, id).path)


def open_split(path: Path) -> Split:
    """The split in this folder."""
    return Split(
        path,
        np.load(path / "images.npy", mmap_mode="r"),
        np.load(path / "labels.npy"),
        json.loads((path / "classes.json").read_text()),
        Rows(**json.loads((path / _ROWS).read_text())),
    )


def write_images(path: Path, pieces: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> None:
    """Write images as one `.npy` file, whose number is known only at the end.

    The file is written in order: a full disk is then an error, while a write through a memory map would be killed.
    NumPy leaves room in the header for the number.

    Args:
        path: The file.
        pieces: Images uint8 [n, *shape], any number at a time.
        shape: The shape of one image.
    """
    count = 0
    with path.open("wb") as file:
        _write_header(file, (count, *shape))
        for piece in pieces:
            file.write(np.ascontiguousarray(piece).data)
            count += len(piece)
        file.seek(0)
        _write_header(file, (count, *shape))


def write_labels(folder: Path, labels: Sequence[str], rows: Rows) -> None:
    """Write the labels of the images of a split, and what is known of each, in the images' order."""
    classes = sorted(set(labels))
    number = {label: i for i, label in enumerate(classes)}
    np.save(folder / "labels.npy", np.array([number[label] for label in labels], np.int64))
    (folder / "classes.json").write_text(json.dumps(classes))
    (folder / _ROWS).write_text(json.dumps(asdict(rows)))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
