"""The baseline for serving: a handler like those in TorchServe's examples.

One image at a time, Pillow, TorchScript, and TorchServe's default settings.
"""

import io
import json
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from PIL import Image
from ts.torch_handler.base_handler import BaseHandler


class PlainHandler(BaseHandler):  # type: ignore[misc]  # TorchServe has no types
    """Returns the labels and distances of each image's nearest neighbours."""

    def initialize(self, context: Any) -> None:
        """Load TorchScript, index and labels, and the form of the images."""
        super().initialize(context)
        folder = Path(context.system_properties["model_dir"])
        self.index = faiss.read_index(str(folder / "index.faiss"))
        labels = json.loads((folder / "labels.json").read_text())
        self.labels = [labels["classes"][number] for number in labels["gallery"]]
        model = json.loads((folder / "model.json").read_text())
        self.size, self.channels = model["image_size"], model["channels"]

    def preprocess(self, data: list[dict[str, Any]]) -> torch.Tensor:
        """Decode the request bodies to images uint8 [N, S, S, C]."""
        files = [row.get("data") or row["body"] for row in data]
        mode, shape = "L" if self.channels == 1 else "RGB", (self.size, self.size, self.channels)
        opened = [Image.open(io.BytesIO(file)).convert(mode).resize(shape[:2]) for file in files]
        return torch.stack([torch.from_numpy(np.array(image)).reshape(shape) for image in opened])

    def postprocess(self, embeddings: torch.Tensor) -> list[dict[str, Any]]:
        """Label, distance and five neighbours for each of the embeddings float32 [N, size]."""
        similarities, rows = self.index.search(embeddings.numpy(), 5)
        return [self._answer(*found) for found in zip(similarities.tolist(), rows.tolist(), strict=True)]

    def _answer(self, similarities: list[float], rows: list[int]) -> dict[str, Any]:
        pairs = zip(similarities, rows, strict=True)
        near = [{"label": self.labels[row], "distance": 1 - similarity} for similarity, row in pairs]
        return {**near[0], "neighbours": near}
