"""Fetches a backbone's pretrained weights to `<data volume>/downloads/`, once, and keeps them as an artefact.

Preprocess does it, since it is the step that has a network.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from contract.events import Warned, emit
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.models.pretrained import FILE, KIND, check_format
from steps.common.parameters import AUTO, DEFAULT_BACKBONE, SMALL, Pretrained
from steps.common.store import produce
from steps.common.volumes import data_volume

_STEP = "preprocess"
_MADE_BY = ("steps.common.models.pretrained",)  # what decides an id, beside the file's own SHA-256
LACKING = (
    "its pretrained weights could not be had, so small was trained without any, which costs accuracy: on 1,372 emoji "
    "in 8 classes some 0.2"
)


@dataclass(frozen=True)
class Weights:
    """The id of the weights, empty without any; and what is lacking, in words, if some should be there."""

    id: str = ""
    lacking: str = ""


def named(training: Pretrained) -> Weights | None:
    """The weights of a backbone that is named.

    Args:
        training: The section `train` of `params.yaml`.

    Returns:
        The weights, none for `small`; None for `auto`.

    Raises:
        StepError: They cannot be had, or are others than they should be.
    """
    if training.backbone == AUTO:
        return None
    if training.backbone == SMALL:
        return Weights()
    return Weights(_had(training, training.backbone, patient=True))


def automatic(training: Pretrained, source: str, image_size: int, channels: int) -> Weights:
    """The weights that `auto` stands for.

    Args:
        training: The section `train` of `params.yaml`.
        source: The name of the source.
        image_size: Pixels a side.
        channels: 1 for grey images, 3 for colour.

    Returns:
        Those of the default backbone if it is wanted and they can be had.

    Raises:
        StepError: They were fetched, and are others than they should be.
    """
    if not training.wants_backbone(source, image_size, channels):
        return Weights()
    from steps.preprocess.sources.download import NotFetchedError  # imported late: only who fetches needs its libraries

    try:
        return Weights(_had(training, DEFAULT_BACKBONE, patient=False))
    except NotFetchedError as error:
        lacking = f"{DEFAULT_BACKBONE}: {LACKING}. Put them into {_kept_as(DEFAULT_BACKBONE)} and run again"
        emit(Warned(f"{lacking} ({error})", _STEP))
        return Weights(lacking=lacking)


def _had(training: Pretrained, backbone: str, patient: bool) -> str:
    """The id of the weights, fetched if they are not there."""
    path = _file(training, backbone, patient)
    check_format(path)
    found = file_sha256(path)
    if training.backbone_sha256 not in ("", found):
        raise StepError(
            f"{path} has the SHA-256 {found}, and train.backbone_sha256 is {training.backbone_sha256}: delete the "
            "file, or mend the parameter"
        )

    def build(folder: Path) -> dict[str, Any]:
        try:
            os.link(path, folder / FILE)  # so that it takes no room twice
        except OSError:
            shutil.copyfile(path, folder / FILE)
        return {"sha256": found, "bytes": path.stat().st_size, "backbone": backbone, "from": training.backbone_url}

    inputs = {"file": found}
    return produce(data_volume(), KIND, _STEP, parameters={}, inputs=inputs, build=build, code=_MADE_BY).id


def _file(training: Pretrained, backbone: str, patient: bool) -> Path:
    from steps.preprocess.sources.download import NotFetchedError, fetch

    url = training.backbone_url.replace("{backbone}", backbone)
    if not training.is_remote:
        path = Path(unquote(urlsplit(url).path)) if url.startswith("file://") else data_volume() / url
        if not path.is_file():
            raise NotFetchedError(
                f"there is no file {path}, which train.backbone_url names for the pretrained weights of {backbone}: "
                "put them there, or set train.backbone to small"
            )
        return path
    kept = _kept_as(backbone)
    return fetch(
        url,
        kept,
        training.backbone_sha256,
        f"name another mirror in train.backbone_url, put the file into {kept}, or set train.backbone to small",
        patient=patient,
    )


def _kept_as(backbone: str) -> Path:
    return data_volume() / "downloads" / f"{backbone}.safetensors"
