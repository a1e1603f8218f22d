"""Embedding: reads the gallery split and a network, writes `<model volume>/embeddings/<id>/`."""

import json
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.digest import digest
from steps.common.models.contents import network_contents
from steps.common.parameters import typed
from steps.common.store import produce, read
from steps.common.volumes import model_volume
from steps.embed.parameters import Embed

STEP = "embed"


@typed
def embed(gallery: str, network: str, parameters: Embed) -> str:
    """Embed the gallery, and write it into the folder of the embeddings.

    `embeddings.npy` is float32 [N, D] of length one, `features.npy` float16 [M, F], of a sample that
    `steps/common/models/sample.py` chooses; `labels.json` has the classes and each image's.

    Args:
        gallery: The id of the gallery split.
        network: The id of the network.
        parameters: The section `embed` of `params.yaml`.

    Returns:
        The id of the embeddings.
    """

    def build(folder: Path) -> dict[str, Any]:
        import numpy as np

        from steps.common.images.dataset import read_split
        from steps.common.models.embedding import embed_kept
        from steps.common.models.sample import sample

        split = read_split(gallery)
        folder_of_network = read(model_volume(), "network", network).path
        chosen, done = sample(split.labels, split.rows.keys), 0
        found, features = [], []
        for part in embed_kept(folder_of_network, split.images, split.rows.keys, parameters.batch_size):
            found.append(part.embeddings)
            features.append(part.features[chosen[done : done + len(part.embeddings)]])
            done += len(part.embeddings)
        embeddings = np.concatenate(found)
        np.save(folder / "embeddings.npy", embeddings)
        np.save(folder / "features.npy", np.concatenate(features))
        (folder / "labels.json").write_text(json.dumps({"classes": split.classes, "gallery": split.labels.tolist()}))
        return {"images": len(embeddings), "embedding_size": embeddings.shape[1]}

    with progress.running(STEP):
        embeddings = produce(
            model_volume(),
            "embeddings",
            STEP,
            # The same id can have other contents, where a network was made anew on another processor.
            parameters={**parameters.deciding(), "contents": digest(network_contents(network))},
            inputs={"gallery": gallery, "network": network},
            build=build,
        )
        facts = embeddings.facts
        made = f"{facts['images']} embeddings of {facts['embedding_size']}"
        progress.finished(STEP, made=made, unchanged=embeddings.unchanged, id=embeddings.id)
        return embeddings.id
