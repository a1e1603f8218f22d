"""Puts images of a test into the store of pixels, as preprocess would."""

import numpy as np
from numpy.typing import NDArray

from steps.common.images import places
from steps.common.images.facts import facts, packed
from steps.common.images.stored import shards_of
from steps.common.volumes import data_volume


def store_images(folder: str, keys: list[str], images: NDArray[np.uint8]) -> None:
    """Keep images uint8 [N, H, W, C] under their content keys, those that are not there yet.

    Args:
        folder: The name of the folder of shards, which begins with their shape, as `28x28x1-…`.
        keys: Their content keys.
        images: The images.
    """
    shards = shards_of(data_volume() / places.PIXELS / folder)
    with shards.appending() as appender:
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        lacks = shards.table().find(packed(keys)) < 0
        new = [row for row, key in enumerate(keys) if lacks[row] and first[key] == row]
        appender.append(facts(keys, images)[new], images[new])
