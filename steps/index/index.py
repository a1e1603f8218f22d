"""Train FAISS: reads embeddings, writes `<model volume>/index/<id>/`: `index.faiss` and `labels.json`."""

import shutil
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.parameters import typed
from steps.common.store import produce, read
from steps.common.volumes import model_volume
from steps.index.parameters import Index

STEP = "index"


@typed
def index(embeddings: str, parameters: Index) -> str:
    """Make a FAISS index of embeddings, searched by inner product.

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

        from steps.common.models import auto_index, faiss_index

        source = read(model_volume(), "embeddings", embeddings).path
        vectors = np.load(source / "embeddings.npy")
        if factory == auto_index.AUTO:
            made, facts = auto_index.build(vectors)
        else:
            made, facts = faiss_index.build(vectors, factory), {"factory": factory}
        faiss.write_index(made, str(folder / "index.faiss"))
        shutil.copyfile(source / "labels.json", folder / "labels.json")
        return {"vectors": made.ntotal, **facts}

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
