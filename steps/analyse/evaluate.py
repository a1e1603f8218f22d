"""Scores a network and its index on a test split: reads them, writes `<model volume>/evaluation/<id>/`.

`evaluation.json` has accuracy, accuracy per class and the confusion matrix; `confusion.png` shows the matrix;
`mistakes.json` and `golden.json` have test images as PNG, with their answers.
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

from steps.common.dataset import Split
from steps.common.decode import decode
from steps.common.embedding import embed_images, load_network
from steps.common.png import encode_png

NO_NEIGHBOUR = "(none)"
UNKNOWN = "unknown"  # the server's answer beyond the unknown distance
_ROUNDING = 1e-4
_READABLE_CLASSES = 40  # with more classes the picture has no text
_LABEL_LENGTH = 20


def evaluate(
    split: Split,
    network: Path,
    index: Path,
    folder: Path,
    *,
    unknown_distance: float | None,
    batch_size: int,
    golden: int,
    mistakes: int,
) -> dict[str, Any]:
    """Score a network and an index by the label of the nearest neighbour, and write the evaluation.

    An archive's `model.json` gives the image size and channels of its network. Test images of another format are
    converted, as the server does.

    Args:
        split: The test split, images uint8 [N, H, W, C].
        network: The network's folder, or that of an unpacked archive.
        index: The index's folder, or that of an unpacked archive.
        folder: Where the evaluation is written.
        unknown_distance: Images further than this are counted as unknown; None for no such limit.
        batch_size: Images embedded at a time.
        golden: How many images are kept in `golden.json`.
        mistakes: How many images are kept in `mistakes.json`.

    Returns:
        `accuracy`, `per_class`, `unknown` and `unknown_distance`.
    """
    distances, neighbours = nearest(network, index, _images_for(network, split), batch_size)
    gallery = json.loads((index / "labels.json").read_text())
    of_neighbour = [gallery["classes"][label] for label in gallery["gallery"]]
    predicted = [of_neighbour[i] if i >= 0 else NO_NEIGHBOUR for i in neighbours]
    true = [split.classes[label] for label in split.labels]
    threshold = np.inf if unknown_distance is None else unknown_distance
    unknown = (distances > threshold) | (neighbours < 0)
    right = np.array([p == t for p, t in zip(predicted, true, strict=True)], bool)

    classes = sorted({*split.classes, *gallery["classes"], *predicted})
    matrix = confusion_matrix(true, predicted, classes)
    per_class = {c: _mean(right[split.labels == i]) for i, c in enumerate(split.classes)}
    score = {"accuracy": _mean(right), "per_class": per_class}
    score |= {"unknown": _mean(unknown), "unknown_distance": unknown_distance}

    def item(row: int, label: str) -> dict[str, Any]:
        answer = {"expected": true[row], "label": label, "distance": _finite(distances[row])}
        return {"image": base64.b64encode(encode_png(split.images[row])).decode(), "name": split.names[row], **answer}

    # The worst mistake is the most certain one: the nearest neighbour of another class.
    wrong = sorted(np.flatnonzero(~right), key=lambda row: distances[row])[:mistakes]
    evaluation = {**score, "images": len(true), "classes": classes, "confusion": matrix.tolist()}
    (folder / "evaluation.json").write_text(json.dumps(evaluation, indent=2, allow_nan=False) + "\n")
    (folder / "mistakes.json").write_text(json.dumps([item(int(row), predicted[row]) for row in wrong]))
    # The server must repeat these answers, so images at the limit are left out: rounding decides them.
    sure = (distances > threshold - _ROUNDING) == (distances > threshold + _ROUNDING)
    rows = [row for row in _of_every_class(split) if sure[row]][:golden]
    answers = [item(row, UNKNOWN if unknown[row] else predicted[row]) for row in rows]
    (folder / "golden.json").write_text(json.dumps(answers))
    _draw(matrix, classes, folder / "confusion.png")
    return score


def nearest(
    network: Path, index: Path, images: NDArray[np.uint8], batch_size: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Find the nearest neighbour of each image in the gallery.

    Args:
        network: The network's folder.
        index: The index's folder.
        images: uint8 [N, H, W, C].
        batch_size: Images embedded at a time.

    Returns:
        The cosine distances float64 [N], and the rows in the gallery int64 [N]; infinity and -1 if the index finds
        no neighbour.
    """
    embeddings = embed_images(load_network(network), images, batch_size)
    similarities, rows = faiss.read_index(str(index / "index.faiss")).search(embeddings, 1)
    return np.where(rows[:, 0] >= 0, 1 - similarities[:, 0].astype(float), np.inf), rows[:, 0]


def confusion_matrix(true: list[str], predicted: list[str], classes: list[str]) -> NDArray[np.int64]:
    """Return counts int64 [K, K]: rows are true classes, columns predicted ones."""
    number = {label: i for i, label in enumerate(classes)}
    cells = [number[t] * len(classes) + number[p] for t, p in zip(true, predicted, strict=True)]
    counts = np.bincount(np.array(cells, np.int64), minlength=len(classes) ** 2)
    return counts.reshape(len(classes), len(classes))


def _images_for(network: Path, split: Split) -> NDArray[np.uint8]:
    try:
        model = json.loads((network / "model.json").read_text())
    except FileNotFoundError:
        return split.images
    size, channels = model["image_size"], model["channels"]
    if split.images.shape[1:] == (size, size, channels):
        return split.images
    limit = split.images[0, :, :, 0].size
    decoded = [decode(encode_png(image), size=size, channels=channels, max_pixels=limit) for image in split.images]
    return np.stack(decoded)


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
