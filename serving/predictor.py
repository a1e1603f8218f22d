"""Answers images with the labels of their nearest neighbours in the index: reads an unpacked model archive.

It needs no TorchServe, and travels in the archive beside what it reads: network, index, labels and model.json.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from runpy import run_path
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

Decode = Callable[..., NDArray[np.uint8]]

_STATUS = {"too-many-pixels": 413, "wrong-type": 415, "no-neighbour": 422}
_BAD_REQUEST = 400


class Predictor:
    """A network, its index and its labels, from a folder; `decode` is images.decode of the same archive."""

    def __init__(self, folder: Path, decode: Decode) -> None:
        self._decode = decode
        self._model: dict[str, Any] = json.loads((folder / "model.json").read_text())
        labels = json.loads((folder / "labels.json").read_text())
        self._labels = [labels["classes"][number] for number in labels["gallery"]]
        self._network = _load_network(folder)
        self._index = faiss.read_index(str(folder / "index.faiss"))
        if self._index.ntotal != len(self._labels):
            raise ValueError(f"{folder}: {self._index.ntotal} vectors in the index, {len(self._labels)} labels")
        size = self._model["image_size"]
        # The first prediction is many times slower than the next: not the first client's.
        self._predict(np.zeros((1, size, size, self._model["channels"]), np.uint8))

    def answer(self, bodies: Sequence[object]) -> list[dict[str, Any]]:
        """An answer for each request body, in their order; a body that is no usable image gets an error of its own.

        The images among them are predicted as one batch.
        """
        answers: list[dict[str, Any]] = [{} for _ in bodies]
        images = {}
        for number, body in enumerate(bodies):
            if not isinstance(body, bytes | bytearray | memoryview):
                answers[number] = _error("wrong-type", _WRONG_TYPE.format(type(body).__name__))
                continue
            try:
                images[number] = self._pixels(bytes(body))
            except Exception as error:  # nothing that a client sends may end its neighbours' batch
                answers[number] = _error(getattr(error, "rule", "not-an-image"), str(error))
        if images:
            for number, answer in zip(images, self._predict(np.stack(list(images.values()))), strict=True):
                answers[number] = answer
        return answers

    def _pixels(self, body: bytes) -> NDArray[np.uint8]:
        model = self._model
        return self._decode(body, size=model["image_size"], channels=model["channels"], max_pixels=model["max_pixels"])

    def _predict(self, images: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """Answers for images uint8 [N, H, W, C]."""
        with torch.inference_mode():
            embeddings = self._network(torch.from_numpy(images)).numpy()
        similarities, rows = self._index.search(embeddings, min(self._model["neighbours"], len(self._labels)))
        return [self._describe(*found) for found in zip(similarities.tolist(), rows.tolist(), strict=True)]

    def _describe(self, similarities: list[float], rows: list[int]) -> dict[str, Any]:
        neighbours = [
            {"label": self._labels[row], "distance": round(1 - similarity, 6), "index": row}
            for similarity, row in zip(similarities, rows, strict=True)
            if row >= 0  # an approximate index fills up with -1 what it did not find
        ]
        if not neighbours:
            return _error("no-neighbour", _ALONE)
        nearest = neighbours[0]
        model = {key: self._model[key] for key in ("name", "version")}
        return {"label": nearest["label"], "distance": nearest["distance"], "neighbours": neighbours, "model": model}


_WRONG_TYPE = (
    "wrong-type: the request's body is JSON, text or a form ({}) and not an image file; send the file's bytes, as "
    "image/png for example or with no type, as curl -T does."
)
_ALONE = "no-neighbour: the index finds nothing near this image; it is unlike all that the model knows."


def _error(rule: str, message: str) -> dict[str, Any]:
    return {"error": {"status": _STATUS.get(rule, _BAD_REQUEST), "rule": rule, "message": message}}


def _load_network(folder: Path) -> torch.nn.Module:
    """What load() of the folder's own network.py gives: the archive says how to build its network."""
    network: torch.nn.Module = run_path(str(folder / "network.py"))["load"](folder)
    return network
