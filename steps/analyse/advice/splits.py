"""Which splits a model comes from; reads manifests, and splits."""

from collections.abc import Mapping

from steps.common.images.dataset import KIND, Split, open_split
from steps.common.store import read_manifest
from steps.common.volumes import data_volume, model_volume


def split_ids(test: str, network: str, index: str) -> dict[str, str]:
    """The ids of the splits that a model learned from, that its index holds, and that it is tested on.

    Args:
        test: The id of the test split.
        network: The id of the network.
        index: The id of the index.

    Returns:
        The ids by the names `train`, `validation`, `gallery` and `test`, in this order.
    """
    learned = read_manifest(model_volume(), "network", network)["inputs"]
    gallery = read_manifest(model_volume(), "embeddings", embeddings_of(index))["inputs"]["gallery"]
    return {"train": learned["train"], "validation": learned["validation"], "gallery": gallery, "test": test}


def embeddings_of(index: str) -> str:
    """The id of the embeddings that an index holds."""
    made_of: str = read_manifest(model_volume(), "index", index)["inputs"]["embeddings"]
    return made_of


def open_splits(ids: Mapping[str, str]) -> dict[str, Split]:
    """The splits of these ids, by the same names; two names of one id are one split."""
    opened = {id: open_split(data_volume() / KIND / id) for id in set(ids.values())}
    return {name: opened[id] for name, id in ids.items()}
