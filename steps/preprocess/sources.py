"""Where images come from: reads the sample beside this file, MNIST's files, or a folder of images.

A source gives up to three parts: `train`, `gallery` and `test`. A part knows every image's label, name and content
digest before anything is decoded, so that splits and ids follow from content alone.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.events import Warned
from steps.common.digest import digest, file_sha256
from steps.common.errors import StepError
from steps.common.events import emit
from steps.common.volumes import data_volume
from steps.preprocess.download import SHA256, fetch, read_idx

SAMPLE = Path(__file__).parent / "sample.npz"


@dataclass(frozen=True)
class Part:
    """Images not yet decoded: each one's label, its name for messages, a key equal only for equal content.

    `get(row)` gives an image file's bytes, or pixels uint8 [H, W] that need no decoding.
    """

    labels: Sequence[str]
    names: Sequence[str]
    keys: Sequence[str]
    get: Callable[[int], bytes | NDArray[np.uint8]]

    @property
    def digest(self) -> str:
        """Digest of all labels and contents."""
        return digest(sorted(zip(self.labels, self.names, self.keys, strict=True)))


Parts = dict[str, Part]


def sample() -> Parts:
    """5,000 MNIST digits from the repository itself."""
    with np.load(SAMPLE) as file:
        return {"train": _array_part("sample", file["images"], file["labels"])}


def mnist(base_url: str) -> Parts:
    """All of MNIST, 60,000 digits to train and 10,000 to test, fetched once to the data volume."""
    folder = data_volume() / "downloads"
    files = {name: read_idx(fetch(name, sha256, base_url, folder)) for name, sha256 in SHA256.items()}
    return {
        part: _array_part(prefix, files[f"{prefix}-images-idx3-ubyte.gz"], files[f"{prefix}-labels-idx1-ubyte.gz"])
        for part, prefix in (("train", "train"), ("test", "t10k"))
    }


def folder() -> Parts:
    """Images the user put into `<data volume>/images/{train,gallery,test}/<label>/`; only `train` must be there."""
    root = data_volume() / "images"
    parts = {name: _folder_part(root / name) for name in ("train", "gallery", "test") if (root / name).is_dir()}
    for name, part in parts.items():
        if not part.names:
            raise StepError(f"{root / name} holds no <label>/<image>: put one folder per class into it")
    if "train" not in parts:
        raise StepError(f"{root / 'train'} is missing: data.source is folder, so put images into train/<label>/ there")
    return parts


def _array_part(prefix: str, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Part:
    return Part(
        labels=[str(label) for label in labels],
        names=[f"{prefix}#{row}" for row in range(len(images))],
        keys=[hashlib.sha256(image.tobytes()).hexdigest() for image in images],
        get=lambda row: np.asarray(images[row]),
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _folder_part(root: Path) -> Part:
    seen = [path for path in root.rglob("*") if path.is_file() and not _hidden(path.relative_to(root))]
    files = sorted(path for path in seen if path.parent.parent == root)
    if other := sorted(set(seen) - set(files)):
        what = f"{len(other)} files in {root} are not in <label>/ and are left out: {other[0].relative_to(root)}"
        emit(Warned(what + (" and others" if len(other) > 1 else ""), "preprocess"))
    with ThreadPoolExecutor() as pool:
        keys = list(pool.map(file_sha256, files))
    return Part(
        labels=[path.parent.name for path in files],
        names=[path.relative_to(root.parent).as_posix() for path in files],
        keys=keys,
        get=lambda row: files[row].read_bytes(),
    )
