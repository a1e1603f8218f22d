"""Gathers what the pages on data and model show, beside an evaluation: in `page.json`, with small pictures.

A verdict on answers that are there renders it, without images, network or index. Its size is bounded, whatever the
number of classes and images.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from steps.analyse.advice.findings import FILE as ADVICE
from steps.analyse.advice.splits import embeddings_of, open_splits, split_ids
from steps.analyse.page import data, model
from steps.analyse.page.page import GATHERED, load_json
from steps.analyse.page.pictures import single
from steps.common.store import read
from steps.common.volumes import model_volume


def gather(folder: Path, test: str, network: str, index: str, unknown_distance: float | None) -> None:
    """Write the file.

    Args:
        folder: The evaluation, with its answers and its advice.
        test: The id of the test split.
        network: The id of the network.
        index: The id of the index.
        unknown_distance: The limit of cosine distances beyond which an image is unknown.
    """
    splits = open_splits(split_ids(test, network, index))
    tested, confused = splits["test"], load_json(folder / "evaluation.json")["confused"]
    embeddings = read(model_volume(), "embeddings", embeddings_of(index)).path / "embeddings.npy"
    first = [label for pair in confused for label in pair[:2]]
    plane = model.gallery_map(np.load(embeddings, mmap_mode="r"), splits["gallery"], first)
    curve = model.open_set(tested, folder, unknown_distance)
    content = {
        "data": asdict(data.describe(splits)),
        "pairs": [asdict(pair) for pair in model.pairs(tested, folder, confused)],
        "map": asdict(plane) if plane else None,
        "reliability": [asdict(part) for part in model.reliability(tested, folder)],
        "open_set": asdict(curve) if curve else None,
        "mistakes": [_pictured(mistake) for mistake in load_json(folder / "mistakes.json")],
        "advice": [
            {**finding, "images": [_pictured(image) for image in finding["images"]]}
            for finding in load_json(folder / ADVICE)
        ],
    }
    (folder / GATHERED).write_text(json.dumps(content, allow_nan=False) + "\n")


def _pictured(image: Mapping[str, Any]) -> dict[str, Any]:
    """An image of the evaluation, its picture as an address, and so that of its neighbour."""
    found = dict(image)
    if "image" in found:
        found["image"] = single(found["image"])
    if isinstance(found.get("neighbour"), dict):
        found["neighbour"] = _pictured(found["neighbour"])
    return found
