"""A served network takes fewer large images at once than small ones, so that its memory has a bound."""

from typing import Any

import numpy as np
import onnxruntime
import pytest

from steps.analyse.onnx_network import served_network


class Session:
    """An ONNX session that notes how many images it gets."""

    def __init__(self, model: bytes, providers: list[str]) -> None:
        self.counts: list[int] = []

    def get_inputs(self) -> list[Any]:
        return [self]

    def get_outputs(self) -> list[Any]:
        return [self]

    @property
    def name(self) -> str:
        return "images"

    def run(self, _: None, given: dict[str, Any]) -> list[Any]:
        self.counts.append(len(given["images"]))
        return [given["images"].reshape(len(given["images"]), -1)[:, :1].astype(np.float32)]


@pytest.mark.parametrize(("side", "counts"), [(28, [50, 50, 20]), (224, [20] * 6), (2000, [2] * 60)])
def test_of_large_images_it_takes_few_at_once(monkeypatch: pytest.MonkeyPatch, side: int, counts: list[int]) -> None:
    session = Session(b"", [])
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda model, providers: session)
    images = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None, None], (120, side, side, 1))
    found = np.concatenate([embeddings for embeddings, _ in served_network(b"", 50)(images)])
    assert session.counts == counts
    assert found[:, 0].tolist() == list(range(120))
