"""Collect and preprocess data: reads a source, writes four splits to `<data volume>/dataset/<id>/`.

`train` and `validation` fit the network, `gallery` is what the index holds, `test` is only ever scored. Each split
has an id of its own, which depends on the images it is drawn from and on the parameters, so new gallery images change
the gallery's id alone. Where a source has no gallery, the training split is the gallery, under the same id.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress, Warned
from steps.common import progress
from steps.common.dataset import KIND, write_images, write_labels
from steps.common.decode import BadImage, decode
from steps.common.errors import StepError
from steps.common.events import emit
from steps.common.parameters import typed
from steps.common.png import encode_png
from steps.common.store import Artefact, holds_only_older, produce
from steps.common.volumes import data_volume
from steps.preprocess import sources
from steps.preprocess.split import stratify

STEP = "preprocess"
_PIECE = 1024  # images decoded before they are written
_ANEW = "the volumes hold results of an earlier version of this program: this run makes everything anew"
_NAMED = 20  # unreadable images named on the screen; all are in the manifest


@typed
def preprocess(
    *,
    source: Literal["sample", "mnist", "folder"],
    mnist_url: str,
    image_size: int,
    channels: int,
    max_pixels: int,
    validation_fraction: float,
    test_fraction: float,
    max_unreadable: int,
    seed: int,
) -> dict[str, str]:
    """The ids of the splits `train`, `validation`, `gallery` and `test`.

    Raises StepError if the source is not there, or more than `max_unreadable` images cannot be read.
    """
    with progress.running(STEP):
        given = _parts(source, mnist_url)
        parts = {"train": given["train"], "test": given.get("test", given["train"])}
        parts |= {"validation": given["train"], "gallery": given.get("gallery", given["train"])}
        held_out = {"validation": validation_fraction}
        if "test" not in given:
            held_out = {"test": test_fraction, **held_out}
        rows = stratify(given["train"].labels, given["train"].keys, held_out, rest="train", seed=seed)
        rows |= {name: np.arange(len(given[name].names)) for name in ("gallery", "test") if name in given}
        shape: dict[str, Any] = {"image_size": image_size, "channels": channels, "max_pixels": max_pixels}
        drawn = {**held_out, "seed": seed}

        if holds_only_older(data_volume(), KIND):
            emit(Warned(_ANEW, STEP))
        made: dict[str, Artefact] = {}
        for split in ("train", "validation", "gallery", "test"):
            if split not in rows:
                made[split] = made["train"]
                continue
            whole = parts[split] is not given["train"]
            made[split] = produce(
                data_volume(),
                KIND,
                STEP,
                parameters={"split": "whole" if whole else split, **shape, **({} if whole else drawn)},
                inputs={"images": parts[split].digest},
                build=partial(_build, split, parts[split], rows[split], shape, max_unreadable),
            )
        _check_unreadable({name for split in made.values() for name in split.facts["unreadable"]}, max_unreadable)
        ids = {split: artefact.id for split, artefact in made.items()}
        progress.finished(
            STEP,
            made=", ".join(f"{artefact.facts['images']} {split}" for split, artefact in made.items()),
            unchanged=all(artefact.unchanged for artefact in made.values()),
            ids=ids,
        )
        return ids


def _parts(source: str, mnist_url: str) -> sources.Parts:
    match source:
        case "sample":
            return sources.sample()
        case "mnist":
            return sources.mnist(mnist_url)
        case "folder":
            return sources.folder()
    raise StepError(f"data.source is {source!r}: it must be sample, mnist or folder")


def _build(
    split: str,
    part: sources.Part,
    rows: NDArray[np.int64],
    shape: Mapping[str, Any],
    max_unreadable: int,
    folder: Path,
) -> dict[str, Any]:
    kept: list[int] = []
    unreadable: list[str] = []

    def pieces() -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(rows), _PIECE):
                piece = rows[start : start + _PIECE].tolist()
                decoded = list(pool.map(lambda row: _decode(part, row, shape), piece))
                for row, image in zip(piece, decoded, strict=True):
                    if isinstance(image, BadImage):
                        unreadable.append(part.names[row])
                        _report_unreadable(part.names[row], image, len(unreadable))
                    else:
                        kept.append(row)
                _check_unreadable(set(unreadable), max_unreadable)
                emit(Progress(split, start + len(piece), len(rows), "images", STEP))
                images = [image for image in decoded if not isinstance(image, BadImage)]
                if images:
                    yield np.stack(images)

    side = int(shape["image_size"])
    write_images(folder / "images.npy", pieces(), (side, side, int(shape["channels"])))
    write_labels(folder, [part.labels[row] for row in kept], [part.names[row] for row in kept])
    return {"images": len(kept), "unreadable": unreadable}


def _decode(part: sources.Part, row: int, shape: Mapping[str, Any]) -> NDArray[np.uint8] | BadImage:
    size, channels = int(shape["image_size"]), int(shape["channels"])
    image = part.get(row)
    if not isinstance(image, bytes):
        if image.shape == (size, size) and channels == 1:
            return image[:, :, None]
        image = encode_png(image, compress_level=0)
    try:
        return decode(image, size=size, channels=channels, max_pixels=int(shape["max_pixels"]))
    except BadImage as error:
        return error


def _report_unreadable(name: str, error: BadImage, count: int) -> None:
    if count <= _NAMED:
        emit(Warned(f"unreadable: {name}: {error}", STEP))


def _check_unreadable(names: set[str], limit: int) -> None:
    if len(names) > limit:
        some = ", ".join(sorted(names)[:_NAMED])
        raise StepError(
            f"{len(names)} images cannot be read, and data.max_unreadable allows {limit}: mend or remove {some}"
            + (" and others" if len(names) > _NAMED else "")
        )
