"""What the served model says of an image: reads its archive once, and asks network and index in this process.

The archive is data only: its network is ONNX, and no code of it runs.
"""

import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from contract.pointer import MODEL_STORE, THUMBNAILS, Pointer
from steps.common.errors import StepError
from steps.common.images.decode import decode
from steps.common.models.contents import INDEX_FILES, ONNX
from steps.common.pointer import read_pointer
from steps.common.volumes import deploy_volume

_INDEX, _LABELS = INDEX_FILES


@dataclass(frozen=True)
class Neighbour:
    """A gallery image near an image: its label, its distance, and its number in the gallery."""

    label: str
    distance: float
    index: int


@dataclass(frozen=True, eq=False)
class Model:
    """The served model, as far as review needs it; without one it knows no neighbours.

    Attributes:
        version: Its version; None if nothing is served.
        labels: The labels that it knows, in order.
        thumbnails: The gallery's pictures as WebP, and their layout; None if the archive has none.
    """

    version: str | None = None
    labels: Sequence[str] = ()
    thumbnails: tuple[bytes, Mapping[str, int]] | None = None
    _network: bytes = b""
    _index: bytes = b""
    _gallery: Sequence[int] = ()
    _settings: Mapping[str, Any] = field(default_factory=dict)

    def near(self, data: bytes, polarity: str | None, max_pixels: int) -> list[Neighbour]:
        """The nearest gallery images of an image.

        Args:
            data: The bytes of an image file.
            polarity: What its client stated; None if nothing.
            max_pixels: A larger image is not decoded.

        Returns:
            The neighbours, the nearest first; none without a model. BadImage if the bytes are no image.
        """
        if not self._network:
            return []
        size, channels = self._settings["image_size"], self._settings["channels"]
        pixels = decode(data, size=size, channels=channels, max_pixels=max_pixels)
        if polarity not in (None, self._settings.get("polarity", polarity)):
            pixels = 255 - pixels
        embed, index = self._loaded
        [(embeddings, _)] = embed(pixels[np.newaxis])
        cosines, rows = index.search(embeddings, min(self._settings["neighbours"], len(self._gallery)))
        return [
            Neighbour(self.labels[self._gallery[row]], round(1 - float(cosine), 4), int(row))
            for cosine, row in zip(cosines[0], rows[0], strict=True)
            if row >= 0
        ]

    @cached_property
    def _loaded(self) -> Any:
        """Network and index, loaded when they are asked first."""
        import faiss

        from steps.analyse.onnx_network import served_network

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, _INDEX)
            path.write_bytes(self._index)
            return served_network(self._network, 1), faiss.read_index(str(path))


def served() -> Model:
    """The model that the pointer names.

    Returns:
        The model; one that knows nothing if nothing was deployed yet.

    Raises:
        StepError: The pointer or the archive cannot be read.
    """
    pointer = read_pointer()
    return Model() if pointer is None else _read(pointer)


def _read(pointer: Pointer) -> Model:
    path = deploy_volume() / MODEL_STORE / pointer.mar
    try:
        with zipfile.ZipFile(path) as archive:
            labels, names = json.loads(archive.read(_LABELS)), archive.namelist()
            image, layout = THUMBNAILS
            pictures = (archive.read(image), json.loads(archive.read(layout))) if image in names else None
            return Model(
                pointer.version,
                labels["classes"],
                pictures,
                archive.read(ONNX),
                archive.read(_INDEX),
                labels["gallery"],
                json.loads(archive.read("model.json")),
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise StepError(
            f"the model now served, {path}, cannot be read ({error}): restore it from backup/, or run again"
        ) from error
