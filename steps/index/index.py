"""Train FAISS: reads embeddings and features, writes `<model volume>/index/<id>/`.

`index.faiss` and `labels.json` find the nearest images, `features.npz` tells whether an image is of any kind known.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.code.deciding import deciding_code
from steps.common.errors import StepError
from steps.common.models.contents import FEATURES_INDEX
from steps.common.parameters import typed
from steps.common.store import find, produce, read
from steps.common.volumes import model_volume
from steps.index.parameters import Index

STEP = "index"
_TRIED = 3  # earlier indexes that may be added to


@typed
def index(embeddings: str, parameters: Index) -> str:
    """Make a FAISS index of embeddings, searched by inner product, and one of features.

    For embeddings of length one that is the cosine of the angle, which ArcFace separates.

    Args:
        embeddings: The id of the embeddings.
        parameters: The section `index` of `params.yaml`.

    Returns:
        The id of the index.

    Raises:
        StepError: FAISS cannot make or train such an index.
    """
    factory = parameters.factory

    def build(folder: Path) -> dict[str, Any]:
        import faiss
        import numpy as np

        from steps.common.models import auto_index, faiss_index, features_index

        source = read(model_volume(), "embeddings", embeddings).path
        features_index.build(np.load(source / "features.npy")).save(folder / FEATURES_INDEX)
        vectors = np.load(source / "embeddings.npy")
        if factory != auto_index.AUTO:
            made = faiss_index.build(vectors, factory)
            faiss.write_index(made, str(folder / "index.faiss"))
            shutil.copyfile(source / "labels.json", folder / "labels.json")
            return {"vectors": made.ntotal, "factory": factory}
        found = auto_index.build(vectors, _earlier(auto_index.GRAPH))
        faiss.write_index(found.index, str(folder / "index.faiss"))
        labels = json.loads((source / "labels.json").read_text())
        labels["gallery"] = [labels["gallery"][row] for row in found.order]
        (folder / "labels.json").write_text(json.dumps(labels))
        return {"vectors": found.index.ntotal, **found.facts}

    with progress.running(STEP):
        made = produce(
            model_volume(),
            "index",
            STEP,
            parameters=parameters.deciding(),
            inputs={"embeddings": embeddings},
            build=build,
        )
        facts = made.facts
        progress.finished(
            STEP, made=f"{facts['factory']} index of {facts['vectors']}", unchanged=made.unchanged, id=made.id
        )
        return made.id


def _earlier(factory: str) -> Iterator[tuple[str, Any]]:
    """The newest indexes of this factory that this very code and these libraries made, with their ids."""
    import faiss

    code = deciding_code(f"steps.{STEP}.{STEP}")
    paths = (model_volume() / STEP).glob("[!.]*")
    all_of_them = [each for path in paths if (each := find(model_volume(), STEP, path.name))]
    same = [
        each
        for each in all_of_them
        if (each.manifest["code"], each.manifest["libraries"]) == (code.digest, code.libraries)
        and each.facts.get("factory") == factory
    ]
    for each in sorted(same, key=lambda each: str(each.manifest["created"]), reverse=True)[:_TRIED]:
        with suppress(StepError):  # a damaged one
            yield each.id, faiss.read_index(str(read(model_volume(), STEP, each.id).path / "index.faiss"))
