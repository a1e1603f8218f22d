"""Checks the form of what an archive takes from the model volume.

Reads an index and its labels, golden predictions, and the reference of drift.
"""

import json
from pathlib import Path
from typing import Annotated

import faiss
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from contract.loop import reference
from contract.loop.reference import Reference
from contract.pointer import DAMAGE
from steps.common.errors import StepError
from steps.common.models.contents import FEATURES_INDEX, INDEX_FILES
from steps.common.models.features_index import FeaturesIndex, load

GOLDEN = "golden.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Labels(_Strict):
    """`labels.json`: the names of the classes, and for each gallery image the number of its class."""

    classes: list[str]
    gallery: list[Annotated[int, Field(ge=0)]]


class _Prediction(_Strict):
    """An entry of `golden.json`."""

    image: Annotated[Base64Bytes, Field(min_length=1)]
    name: str
    expected: str
    label: str
    distance: float | None
    features_distance: float | None


_GOLDEN = TypeAdapter(Annotated[list[_Prediction], Field(min_length=1)])


def check_index(folder: Path, embedding_size: int) -> int:
    """Check that index and labels of a folder belong together, and to a network.

    Args:
        folder: where they are.
        embedding_size: the length of the network's embeddings.

    Returns:
        The number of images in the gallery.

    Raises:
        StepError: they do not, or one cannot be read.
    """
    index_file, labels_file = (folder / name for name in INDEX_FILES)
    try:
        labels = _Labels.model_validate_json(labels_file.read_bytes(), strict=True)
        # Not memory-mapped, as the server does afterwards: a mapped file that ends early can end this process.
        index = faiss.read_index(str(index_file))
    except (ValidationError, RuntimeError) as error:
        raise StepError(_wrong("the index", str(error))) from error
    found = (index.d, index.ntotal, index.metric_type)
    wanted = (embedding_size, len(labels.gallery), faiss.METRIC_INNER_PRODUCT)
    if found != wanted:
        raise StepError(_wrong("the index", f"size, number and metric of its vectors are {found}, not {wanted}"))
    if max(labels.gallery, default=0) >= len(labels.classes):
        raise StepError(_wrong("the index", f"a label is {max(labels.gallery)}, of {len(labels.classes)} classes"))
    return len(labels.gallery)


def read_features(folder: Path) -> FeaturesIndex:
    """Read the index of features.

    Args:
        folder: where it is.

    Returns:
        The index.

    Raises:
        StepError: it has another form.
    """
    try:
        return load(folder / FEATURES_INDEX)
    except ValueError as error:
        raise StepError(_wrong(FEATURES_INDEX, str(error))) from error


def check_golden(file: Path) -> None:
    """Check the form of golden predictions.

    Args:
        file: their file.

    Raises:
        StepError: it has another form.
    """
    try:
        _GOLDEN.validate_json(file.read_bytes())
    except ValidationError as error:
        raise StepError(_wrong(GOLDEN, str(error))) from error


def read_reference(folder: Path) -> Reference:
    """Read what drift is measured against.

    Args:
        folder: where it is.

    Returns:
        The reference.

    Raises:
        StepError: it has another form.
    """
    try:
        return Reference.parsed(json.loads((folder / reference.FILE).read_bytes()))
    except DAMAGE as error:
        raise StepError(_wrong(reference.FILE, str(error))) from error


def _wrong(what: str, reason: str) -> str:
    return (
        f"{what} on the model volume is not of its form ({' '.join(reason.split())}): run again with an empty model "
        "volume, which makes it anew"
    )
