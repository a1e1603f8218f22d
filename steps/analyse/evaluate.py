"""Scores a network and its index on a test split: reads them, writes `<model volume>/evaluation/<id>/`.

`evaluation.json` has accuracy, accuracy per class and what is shown of the confusion; `steps/analyse/confusion.py` says
what `confusion.json` and `confusion.png` have, and `steps/analyse/answers.py` that of `answers.npz` and `answers.json`;
`mistakes.json` and `golden.json` have test images as PNG, with their answers, `reference.json` the distances of all.
"""

import base64
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from steps.analyse.answers import UNKNOWN, Answers, Limits, Nearest, true_labels, write_answers
from steps.analyse.confusion import Confusion
from steps.analyse.reference import write_reference
from steps.common.images.dataset import Split
from steps.common.images.png import encode_png
from steps.common.models.contents import FEATURES_INDEX
from steps.common.models.embedding import Images, embed_kept
from steps.common.models.features_index import load

_ROUNDING = 1e-4

# Of images uint8 [N, H, W, C], N > 0, some at a time: embeddings float32 [n, D] of length one, and the distances [n] of
# their features from the nearest known ones; None for a model without features.
Embed = Callable[[Images], Iterator[tuple[NDArray[np.float32], NDArray[np.float64] | None]]]


def stored_network(network: Path, index: Path, keys: Sequence[str], batch_size: int) -> Embed:
    """The network of a folder in the store.

    Args:
        network: The folder.
        index: The folder of the index, which has the features that are known.
        keys: The content keys of the images that it will embed; none if they are not the images of these keys as the
            split has them.
        batch_size: Images read at a time.

    Returns:
        The network, which embeds an image that it has embedded before only to compare.
    """
    known = load(index / FEATURES_INDEX)
    return lambda images: (
        (part.embeddings, known.distances(part.features)) for part in embed_kept(network, images, keys, batch_size)
    )


def ask(embed: Embed, index: Path, images: Images, *, limits: Limits, neighbours: int) -> Answers:
    """Ask a network and its index for the label of the nearest neighbour of each image.

    Args:
        embed: The network.
        index: The index's folder.
        images: uint8 [N, H, W, C].
        limits: Images further than these are unknown.
        neighbours: As many as the server looks for.

    Returns:
        The answers.
    """
    found = nearest(embed, index, images, neighbours)
    gallery = json.loads((index / "labels.json").read_text())
    of_neighbour = [gallery["classes"][label] for label in gallery["gallery"]]
    pairs = zip(found.rows, found.known(limits), strict=True)
    return Answers([of_neighbour[row] if known else UNKNOWN for row, known in pairs], found, gallery["classes"])


def evaluate(
    split: Split,
    network: Path,
    index: Path,
    folder: Path,
    *,
    limits: Limits,
    batch_size: int,
    neighbours: int,
    golden: int,
    mistakes: int,
) -> dict[str, Any]:
    """Score a network and an index by what the server would answer, and write the evaluation.

    Args:
        split: The test split, images uint8 [N, H, W, C].
        network: The network's folder.
        index: The index's folder.
        folder: Where the evaluation is written.
        limits: Images further than these are unknown, which is a wrong answer.
        batch_size: Images read at a time.
        neighbours: As many as the server looks for.
        golden: How many images are kept in `golden.json`.
        mistakes: How many images are kept in `mistakes.json`.

    Returns:
        `accuracy`, `unknown` and the limits.
    """
    embed = stored_network(network, index, split.rows.keys, batch_size)
    answers = ask(embed, index, split.images, limits=limits, neighbours=neighbours)
    true, found = true_labels(split), answers.nearest
    unknown = np.array([label == UNKNOWN for label in answers.labels], bool)
    right = np.array([p == t for p, t in zip(answers.labels, true, strict=True)], bool)
    write_answers(folder, answers, np.ones(len(true), bool))
    write_reference(folder, answers)

    classes = sorted({*split.classes, *answers.classes}) + ([UNKNOWN] if unknown.any() else [])
    confusion = Confusion.of(true, answers.labels, classes)
    confusion.write(folder)
    score = {"accuracy": _mean(right), "unknown": _mean(unknown), **asdict(limits)}

    def item(row: int) -> dict[str, Any]:
        answer = {"expected": true[row], "label": answers.labels[row], "distance": _finite(found.distances[row])}
        if found.features_distances is not None:
            answer["features_distance"] = _finite(found.features_distances[row])
        return {"image": base64.b64encode(encode_png(split.images[row])).decode(), "name": split.names[row], **answer}

    # The worst mistake is the most certain one: the nearest neighbour of another class.
    wrong = sorted(np.flatnonzero(~right), key=lambda row: found.distances[row])[:mistakes]
    evaluation = {**score, "images": len(true), "per_class": _per_class(split, right), **confusion.passed_on()}
    (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=2, allow_nan=False) + "\n")
    (folder / "mistakes.json").write_text(json.dumps([item(int(row)) for row in wrong]))
    # The server must repeat these answers, so images at a limit are left out: rounding decides them.
    sure = found.known(_moved(limits, -_ROUNDING)) == found.known(_moved(limits, _ROUNDING))
    rows = [row for row in _of_every_class(split) if sure[row]][:golden]
    rows.sort(key=lambda row: unknown[row])  # the first is the one that the closing lines of a run show
    (folder / "golden.json").write_text(json.dumps([item(row) for row in rows]))
    return score


def nearest(embed: Embed, index: Path, images: Images, neighbours: int) -> Nearest:
    """Find the nearest neighbour of each image in the gallery, and how near its features are.

    Args:
        embed: The network.
        index: The index's folder.
        images: uint8 [N, H, W, C].
        neighbours: How many are looked for, since an index that approximates may find a nearer one among more.

    Returns:
        What is found.
    """
    searched = faiss.read_index(str(index / "index.faiss"))
    distances, rows = [np.zeros(0)], [np.zeros(0, np.int64)]
    of_features: list[NDArray[np.float64]] = []
    for embeddings, features_distances in embed(images) if len(images) else ():
        similarities, found = searched.search(embeddings, min(neighbours, searched.ntotal))
        distances.append(np.where(found[:, 0] >= 0, 1 - similarities[:, 0].astype(float), np.inf))
        rows.append(found[:, 0])
        of_features += [] if features_distances is None else [features_distances]
    has_features = of_features or not len(images)
    of_both = np.concatenate([np.zeros(0), *of_features]) if has_features else None
    return Nearest(np.concatenate(distances), np.concatenate(rows), of_both)


def _moved(limits: Limits, by: float) -> Limits:
    return Limits(*(None if limit is None else limit + by for limit in asdict(limits).values()))


def _of_every_class(split: Split) -> list[int]:
    """Return all rows: first the first one of each class, then the second one of each, and so on."""
    by_class = np.argsort(split.labels, kind="stable")
    of_class = split.labels[by_class]
    turn = np.empty(len(split), np.int64)
    turn[by_class] = np.arange(len(split)) - np.searchsorted(of_class, of_class)
    return [int(row) for row in np.lexsort((split.labels, turn))]


def _per_class(split: Split, right: NDArray[np.bool_]) -> dict[str, float | None]:
    count = np.bincount(split.labels, minlength=len(split.classes))
    hits = np.bincount(split.labels, weights=right, minlength=len(split.classes))
    pairs = zip(split.classes, hits.tolist(), count.tolist(), strict=True)
    return {label: hit / images if images else None for label, hit, images in pairs}


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
