"""Which splits a model comes from; reads manifests."""

from steps.common.store import read
from steps.common.volumes import model_volume


def split_ids(test: str, network: str, index: str) -> dict[str, str]:
    """The ids of the splits that a model learned from, that its index holds, and that it is tested on.

    Args:
        test: The id of the test split.
        network: The id of the network.
        index: The id of the index.

    Returns:
        The ids by the names `train`, `validation`, `gallery` and `test`, in this order.
    """
    learned = read(model_volume(), "network", network).manifest["inputs"]
    embeddings = read(model_volume(), "embeddings", embeddings_of(index))
    gallery = embeddings.manifest["inputs"]["gallery"]
    return {"train": learned["train"], "validation": learned["validation"], "gallery": gallery, "test": test}


def embeddings_of(index: str) -> str:
    """The id of the embeddings that an index holds."""
    made_of: str = read(model_volume(), "index", index).manifest["inputs"]["embeddings"]
    return made_of
