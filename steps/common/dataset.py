"""One split of a dataset, `<data volume>/dataset/<id>/`: `images.npy`, `labels.npy`, `classes.json`, `names.json`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from steps.common.store import read
from steps.common.volumes import data_volume

KIND = "dataset"


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, H, W, C], memory-mapped; labels int64 [N], numbers of classes; a name for each image."""

    path: Path
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: list[str]
    names: list[str]

    def __len__(self) -> int:
        return len(self.labels)


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
        json.loads((path / "names.json").read_text()),
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


def write_labels(folder: Path, labels: Sequence[str], names: Sequence[str]) -> None:
    """Write the labels and the names of a split's images, in the images' order."""
    classes = sorted(set(labels))
    number = {label: i for i, label in enumerate(classes)}
    np.save(folder / "labels.npy", np.array([number[label] for label in labels], np.int64))
    (folder / "classes.json").write_text(json.dumps(classes))
    (folder / "names.json").write_text(json.dumps(list(names)))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
