"""Collect and preprocess data: reads a source, writes four splits to `<data volume>/dataset/<id>/`.

`train` and `validation` fit the network, `gallery` is what the index holds, `test` is only ever scored. Each split
has its own id, from the parameters and the images that it is drawn from: new gallery images change the gallery's id
alone. If a source has no gallery, the training split is the gallery, under the same id.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress, Warned, emit
from steps.common import progress
from steps.common.dataset import KIND, write_images, write_labels
from steps.common.decode import BadImage, decode
from steps.common.errors import StepError
from steps.common.parameters import typed
from steps.common.png import encode_png
from steps.common.store import Artefact, holds_only_older, produce
from steps.common.volumes import data_volume
from steps.preprocess.parameters import Data
from steps.preprocess.sources.source import Part
from steps.preprocess.split import stratify

STEP = "preprocess"
_PIECE = 1024  # images decoded, then written, at a time
_DRAWING = ("validation_fraction", "test_fraction", "seed")  # decide only the splits drawn from training images
_ANEW = "the volumes hold results of an earlier version of this program: this run makes everything anew"
_NAMED = 20  # unreadable images named on the screen; all are in the manifest


@typed
def preprocess(parameters: Data) -> dict[str, str]:
    """Read the source, decode its images and draw the splits.

    Args:
        parameters: The section `data` of `params.yaml`.

    Returns:
        The ids of the splits `train`, `validation`, `gallery` and `test`, by these names.

    Raises:
        StepError: The source cannot be read, or more than `max_unreadable` images cannot be decoded.
    """
    with progress.running(STEP):
        given = parameters.chosen_source().read()
        parts = {"train": given["train"], "test": given.get("test", given["train"])}
        parts |= {"validation": given["train"], "gallery": given.get("gallery", given["train"])}
        held_out = {"validation": parameters.validation_fraction}
        if "test" not in given:
            held_out = {"test": parameters.test_fraction, **held_out}
        rows = stratify(given["train"].labels, given["train"].keys, held_out, rest="train", seed=parameters.seed)
        rows |= {name: np.arange(len(given[name].names)) for name in ("gallery", "test") if name in given}
        decoding = {key: value for key, value in parameters.deciding().items() if key not in _DRAWING}
        drawing = {**held_out, "seed": parameters.seed}

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
                parameters={"split": "whole" if whole else split, **decoding, **({} if whole else drawing)},
                inputs={"images": parts[split].digest},
                build=partial(_build, split, parts[split], rows[split], parameters),
            )
        unreadable = {name for split in made.values() for name in split.facts["unreadable"]}
        _check_unreadable(unreadable, parameters.max_unreadable)
        ids = {split: artefact.id for split, artefact in made.items()}
        progress.finished(
            STEP,
            made=", ".join(f"{artefact.facts['images']} {split}" for split, artefact in made.items()),
            unchanged=all(artefact.unchanged for artefact in made.values()),
            ids=ids,
        )
        return ids


def _build(
    split: str,
    part: Part,
    rows: NDArray[np.int64],
    parameters: Data,
    folder: Path,
) -> dict[str, Any]:
    kept: list[int] = []
    unreadable: list[str] = []

    def pieces() -> Iterator[NDArray[np.uint8]]:
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(rows), _PIECE):
                piece = rows[start : start + _PIECE].tolist()
                decoded = list(pool.map(lambda row: _decode(part, row, parameters), piece))
                for row, image in zip(piece, decoded, strict=True):
                    if isinstance(image, BadImage):
                        unreadable.append(part.names[row])
                        _report_unreadable(part.names[row], image, len(unreadable))
                    else:
                        kept.append(row)
                _check_unreadable(set(unreadable), parameters.max_unreadable)
                emit(Progress(split, start + len(piece), len(rows), "images", STEP))
                images = [image for image in decoded if not isinstance(image, BadImage)]
                if images:
                    yield np.stack(images)

    side = parameters.image_size
    write_images(folder / "images.npy", pieces(), (side, side, parameters.channels))
    write_labels(folder, [part.labels[row] for row in kept], [part.names[row] for row in kept])
    return {"images": len(kept), "unreadable": unreadable}


def _decode(part: Part, row: int, parameters: Data) -> NDArray[np.uint8] | BadImage:
    size, channels = parameters.image_size, parameters.channels
    image = part.get(row)
    if not isinstance(image, bytes):
        if image.shape == (size, size) and channels == 1:
            return image[:, :, None]
        image = encode_png(image, compress_level=0)
    try:
        return decode(image, size=size, channels=channels, max_pixels=parameters.max_pixels)
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
