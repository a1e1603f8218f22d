"""Scores a network and its index on a test split: reads them, writes `<model volume>/evaluation/<id>/`.

`evaluation.json` has accuracy, accuracy per class and the confusion matrix; `confusion.png` shows the matrix;
`mistakes.json` and `golden.json` have test images as PNG, with their answers; `steps/analyse/answers.py` says what
`answers.npz` and `answers.json` have.
"""

import base64
import json
import math
import textwrap
import warnings
from pathlib import Path
from typing import Any

import faiss
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from steps.analyse.answers import UNKNOWN, Answers, true_labels, write_answers
from steps.common.images.dataset import Split
from steps.common.images.png import encode_png
from steps.common.models.embedding import Images, embed_images, load_network

_ROUNDING = 1e-4
_READABLE_CLASSES = 40  # with more classes the picture has no text
_LABEL_LENGTH = 20


def ask(
    network: Path, index: Path, images: Images, *, unknown_distance: float | None, batch_size: int, neighbours: int
) -> Answers:
    """Ask a network and its index for the label of the nearest neighbour of each image.

    Args:
        network: The network's folder, or that of an unpacked archive.
        index: The index's folder, or that of an unpacked archive.
        images: uint8 [N, H, W, C].
        unknown_distance: Images further than this are unknown; None for no such limit.
        batch_size: Images embedded at a time.
        neighbours: As many as the server looks for.

    Returns:
        The answers. An image without a neighbour, or of a distance that is no number, is unknown.
    """
    distances, found = nearest(network, index, images, batch_size, neighbours)
    gallery = json.loads((index / "labels.json").read_text())
    near = (found >= 0) & (distances <= (np.inf if unknown_distance is None else unknown_distance))
    of_neighbour = [gallery["classes"][label] for label in gallery["gallery"]]
    labels = [of_neighbour[row] if known else UNKNOWN for row, known in zip(found, near, strict=True)]
    return Answers(labels, distances, gallery["classes"])


def evaluate(
    split: Split,
    network: Path,
    index: Path,
    folder: Path,
    *,
    unknown_distance: float | None,
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
        unknown_distance: Images further than this are unknown, which is a wrong answer; None for no such limit.
        batch_size: Images embedded at a time.
        neighbours: As many as the server looks for.
        golden: How many images are kept in `golden.json`.
        mistakes: How many images are kept in `mistakes.json`.

    Returns:
        `accuracy`, `per_class`, `unknown` and `unknown_distance`.
    """
    how: dict[str, Any] = {"unknown_distance": unknown_distance, "batch_size": batch_size, "neighbours": neighbours}
    answers = ask(network, index, split.images, **how)
    true, distances = true_labels(split), answers.distances
    unknown = np.array([label == UNKNOWN for label in answers.labels], bool)
    right = np.array([p == t for p, t in zip(answers.labels, true, strict=True)], bool)
    write_answers(folder, answers, np.ones(len(true), bool))

    classes = sorted({*split.classes, *answers.classes}) + ([UNKNOWN] if unknown.any() else [])
    matrix = confusion_matrix(true, answers.labels, classes)
    per_class = {c: _mean(right[split.labels == i]) for i, c in enumerate(split.classes)}
    score = {"accuracy": _mean(right), "per_class": per_class}
    score |= {"unknown": _mean(unknown), "unknown_distance": unknown_distance}

    def item(row: int) -> dict[str, Any]:
        answer = {"expected": true[row], "label": answers.labels[row], "distance": _finite(distances[row])}
        return {"image": base64.b64encode(encode_png(split.images[row])).decode(), "name": split.names[row], **answer}

    # The worst mistake is the most certain one: the nearest neighbour of another class.
    wrong = sorted(np.flatnonzero(~right), key=lambda row: distances[row])[:mistakes]
    evaluation = {**score, "images": len(true), "classes": classes, "confusion": matrix.tolist()}
    (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=2, allow_nan=False) + "\n")
    (folder / "mistakes.json").write_text(json.dumps([item(int(row)) for row in wrong]))
    # The server must repeat these answers, so images at the limit are left out: rounding decides them.
    threshold = np.inf if unknown_distance is None else unknown_distance
    sure = (distances > threshold - _ROUNDING) == (distances > threshold + _ROUNDING)
    rows = [row for row in _of_every_class(split) if sure[row]][:golden]
    rows.sort(key=lambda row: unknown[row])  # the first is the one that the closing lines of a run show
    (folder / "golden.json").write_text(json.dumps([item(row) for row in rows]))
    _draw(matrix, classes, folder / "confusion.png")
    return score


def nearest(
    network: Path, index: Path, images: Images, batch_size: int, neighbours: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the nearest neighbour of each image in the gallery.

    Args:
        network: The network's folder.
        index: The index's folder.
        images: uint8 [N, H, W, C].
        batch_size: Images embedded at a time.
        neighbours: How many are looked for, since an index that approximates may find a nearer one among more.

    Returns:
        The cosine distances float64 [N], and the rows in the gallery int64 [N]; infinity and -1 if the index finds
        no neighbour.
    """
    if not len(images):
        return np.zeros(0), np.zeros(0, np.int64)
    embeddings = embed_images(load_network(network), images, batch_size)
    searched = faiss.read_index(str(index / "index.faiss"))
    similarities, rows = searched.search(embeddings, min(neighbours, searched.ntotal))
    return np.where(rows[:, 0] >= 0, 1 - similarities[:, 0].astype(float), np.inf), rows[:, 0]


def confusion_matrix(true: list[str], predicted: list[str], classes: list[str]) -> NDArray[np.int64]:
    """Return counts int64 [K, K]: rows are true classes, columns predicted ones."""
    number = {label: i for i, label in enumerate(classes)}
    cells = [number[t] * len(classes) + number[p] for t, p in zip(true, predicted, strict=True)]
    counts = np.bincount(np.array(cells, np.int64), minlength=len(classes) ** 2)
    return counts.reshape(len(classes), len(classes))


def _of_every_class(split: Split) -> list[int]:
    """Return all rows: first the first one of each class, then the second one of each, and so on."""
    turn = np.zeros(len(split), np.int64)
    for label in range(len(split.classes)):
        rows = np.flatnonzero(split.labels == label)
        turn[rows] = np.arange(len(rows))
    return [int(row) for row in np.lexsort((split.labels, turn))]


def _draw(matrix: NDArray[np.int64], classes: list[str], path: Path) -> None:
    matplotlib.use("agg")
    readable = len(classes) <= _READABLE_CLASSES
    side = 2 + 0.4 * min(len(classes), _READABLE_CLASSES)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if readable:
        names = [textwrap.shorten(label, _LABEL_LENGTH, placeholder="…") or label[:_LABEL_LENGTH] for label in classes]
        axes.set_xticks(range(len(classes)), names, rotation=90 if max(map(len, names)) > 2 else 0, parse_math=False)
        axes.set_yticks(range(len(classes)), names, parse_math=False)
    for row, column in np.argwhere(matrix) if readable else ():
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the picture has a box in its place
        figure.savefig(path, dpi=110)


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
