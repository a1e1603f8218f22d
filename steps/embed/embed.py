"""Embedding: reads the gallery split and a network, writes `<model volume>/embeddings/<id>/`."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from steps.common import progress
from steps.common.dataset import read_split
from steps.common.parameters import typed
from steps.common.store import produce, read
from steps.common.volumes import model_volume

STEP = "embed"


@typed
def embed(gallery: str, network: str, *, batch_size: int) -> str:
    """The id of the gallery's embeddings: `embeddings.npy`, float32 [N, D] of length one, and `labels.json`."""

    def build(folder: Path) -> dict[str, Any]:
        from steps.common.embedding import embed_images, load_network

        split = read_split(gallery)
        embeddings = embed_images(load_network(read(model_volume(), "network", network).path), split.images, batch_size)
        np.save(folder / "embeddings.npy", embeddings)
        (folder / "labels.json").write_text(json.dumps({"classes": split.classes, "gallery": split.labels.tolist()}))
        return {"images": len(embeddings), "embedding_size": embeddings.shape[1]}

    with progress.running(STEP):
        embeddings = produce(
            model_volume(),
            "embeddings",
            STEP,
            parameters={},
            inputs={"gallery": gallery, "network": network},
            build=build,
        )
        facts = embeddings.facts
        made = f"{facts['images']} embeddings of {facts['embedding_size']}"
        progress.finished(STEP, made=made, unchanged=embeddings.unchanged, id=embeddings.id)
        return embeddings.id
