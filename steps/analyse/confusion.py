"""Which classes are taken for which: counts of pairs, so that K classes need no K x K numbers; and their picture."""

import json
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

READABLE = 50  # of more classes a matrix is neither drawn nor passed on whole
_CONFUSED = 15  # pairs that are passed on
_LABEL_LENGTH = 20  # in the picture


@dataclass(frozen=True)
class Confusion:
    """The pairs of a true class and an answer that occur, int64 [P] numbers of `classes`, and their `images` int64 [P].

    The pairs are in order, by true class and then by answer.
    """

    classes: list[str]
    true: NDArray[np.int64]
    answers: NDArray[np.int64]
    images: NDArray[np.int64]

    @classmethod
    def of(cls, true: Sequence[str], answers: Sequence[str], classes: list[str]) -> "Confusion":
        """Count them, from the true label and the answer of each image."""
        number = {label: i for i, label in enumerate(classes)}
        pairs = [number[t] * len(classes) + number[a] for t, a in zip(true, answers, strict=True)]
        cells, images = np.unique(np.array(pairs, np.int64), return_counts=True)
        return cls(classes, *np.divmod(cells, max(len(classes), 1)), images.astype(np.int64))

    def most(self) -> list[list[Any]]:
        """The most confused pairs: true label, answer and images, most images first."""
        return [[self.classes[t], self.classes[a], n] for t, a, n in self._most()]

    def matrix(self) -> tuple[list[str], NDArray[np.int64]]:
        """The matrix that can be read.

        Returns:
            The labels of rows, true classes, and of columns, answers; and the counts int64 [n, n]. Of more than
            `READABLE` classes those that are most confused have a row, and the last row and column are all others.
        """
        count = len(self.classes)
        rows = np.arange(count)
        labels = self.classes
        if count > READABLE:
            kept = sorted({one for true, answer, _ in self._most() for one in (true, answer)})
            rows = np.full(count, len(kept))
            rows[kept] = np.arange(len(kept))
            labels = [*(self.classes[one] for one in kept), f"{count - len(kept)} other classes"]
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        np.add.at(matrix, (rows[self.true], rows[self.answers]), self.images)
        return labels, matrix

    def write(self, folder: Path) -> None:
        """Write `confusion.json`, all pairs, and `confusion.png` if the matrix can be read whole."""
        pairs = {name: getattr(self, name).tolist() for name in ("true", "answers", "images")}
        (folder / "confusion.json").write_text(json.dumps({"classes": self.classes, **pairs}) + "\n")
        if len(self.classes) <= READABLE:
            _draw(*self.matrix(), folder / "confusion.png")

    def passed_on(self) -> dict[str, Any]:
        """What the pipeline shows, of a size that does not grow with the classes."""
        labels, matrix = self.matrix()
        return {"classes": labels, "confusion": matrix.tolist(), "confused": self.most()}

    def _most(self) -> list[tuple[int, int, int]]:
        wrong = np.flatnonzero(self.true != self.answers)
        first = wrong[np.argsort(-self.images[wrong], kind="stable")][:_CONFUSED]
        columns = (self.true[first], self.answers[first], self.images[first])
        return list(zip(*(column.tolist() for column in columns), strict=True))


def _draw(labels: list[str], matrix: NDArray[np.int64], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.use("agg")
    side = 2 + 0.4 * len(labels)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [textwrap.shorten(label, _LABEL_LENGTH, placeholder="…") or label[:_LABEL_LENGTH] for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90 if max(map(len, names)) > 2 else 0, parse_math=False)
    axes.set_yticks(range(len(labels)), names, parse_math=False)
    for row, column in np.argwhere(matrix):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour, fontsize=8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the picture has a box in its place
        figure.savefig(path, dpi=110)
