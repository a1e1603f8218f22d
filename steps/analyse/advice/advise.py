"""Measures what would help: reads an evaluation, its splits, network and gallery, and writes files beside it.

`open-set.json` is what `steps/analyse/advice/open_set.py` says.
`advice.json` is a list of findings, as `steps/analyse/advice/findings.py` says, with small pictures as PNG. Of large
splits a sample is looked at, of which `steps/analyse/advice/neighbours.py` says how large it is.
"""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.analyse.advice import findings
from steps.analyse.advice.findings import FILE, Finding, Share, by_class
from steps.analyse.advice.neighbours import (
    Gallery,
    Votes,
    far_from_their_class,
    most,
    nearest_of_class,
    sample,
    vote,
)
from steps.analyse.advice.open_set import MOST, write_open_set
from steps.analyse.advice.splits import embeddings_of, open_splits, split_ids
from steps.analyse.answers import UNKNOWN, read_answers, true_labels
from steps.common.images.dataset import Split
from steps.common.images.png import encode_png
from steps.common.models.embedding import Chosen, embed_kept
from steps.common.store import read
from steps.common.volumes import model_volume

_PICTURED = 12  # images with a suspicious label that are shown
_PAIRS = 5  # pictures of two classes that are confused
_CANDIDATES = 25  # mistakes of each direction, of which the most certain are shown
_CORE = 0.1  # of the images in a class this share is further out; what is further out is seldom mislabelled
_SIDE = 96  # pixels of a picture at most


@dataclass(frozen=True, eq=False)
class _Looked:
    """Images that were looked at: the split's name and itself, their rows, and what their neighbours say.

    `labels` int64 [Q] are the gallery's numbers of their own labels, -1 for a class that it lacks.
    """

    name: str
    split: Split
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    votes: Votes

    @property
    def has_label_of_neighbours(self) -> NDArray[np.bool_]:
        """Whether each has the label of most of its neighbours."""
        has: NDArray[np.bool_] = (self.votes.label >= 0) & (self.votes.label == self.labels)
        return has


class _Scene:
    """What the findings come from: the splits, and the gallery with its labels and groups as numbers."""

    def __init__(self, test: str, network: str, index: str, batch_size: int) -> None:
        ids = split_ids(test, network, index)
        embeddings = read(model_volume(), "embeddings", embeddings_of(index))
        self.splits = open_splits(ids)
        self.held = "train" if ids["gallery"] == ids["train"] else "gallery"
        self.network, self.batch_size = read(model_volume(), "network", network).path, batch_size
        names = (group for split in self.splits.values() for group in split.rows.groups)
        self._group = {name: number for number, name in enumerate(dict.fromkeys(names))}
        of = self.splits["gallery"]
        self._label = {label: number for number, label in enumerate(of.classes)}
        vectors = np.load(embeddings.path / "embeddings.npy", mmap_mode="r")
        self.gallery = Gallery(vectors, of.labels, self._groups(of, np.arange(len(of))))

    @property
    def history(self) -> list[dict[str, float]]:
        """Loss and accuracy after each epoch; none of a network that was not trained."""
        path = self.network / "history.json"
        return json.loads(path.read_text()) if path.exists() else []

    def unique(self) -> list[Split]:
        """The splits, each once."""
        return list({id(split): split for split in self.splits.values()}.values())

    def number(self, label: str) -> int:
        """The gallery's number of a label, -1 for none."""
        return self._label.get(label, -1)

    def embed(self, split: Split, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings float32 [N, D] of some rows."""
        if not len(rows):
            return np.zeros((0, self.gallery.embeddings.shape[1]), np.float32)
        keys = [split.rows.keys[row] for row in rows]
        parts = embed_kept(self.network, Chosen(split.images, rows), keys, self.batch_size)
        return np.concatenate([part.embeddings for part in parts])

    def look(self, name: str, rows: NDArray[np.int64], embeddings: NDArray[np.float32]) -> _Looked:
        """Let the neighbours of some rows of a split vote."""
        split = self.splits[name]
        numbers = np.array([self.number(label) for label in split.classes], np.int64)
        labels = numbers[split.labels[rows]] if len(rows) else np.zeros(0, np.int64)
        return _Looked(name, split, rows, labels, vote(self.gallery, embeddings, labels, self._groups(split, rows)))

    def right(self, looked: _Looked) -> NDArray[np.bool_]:
        """Whether the nearest neighbour of each has its label."""
        nearest = looked.votes.nearest
        right: NDArray[np.bool_] = (nearest >= 0) & (self.gallery.labels[nearest] == looked.labels)
        return right

    def _groups(self, split: Split, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([self._group[split.rows.groups[row]] for row in rows], np.int64)


def advise(folder: Path, test: str, network: str, index: str, batch_size: int) -> None:
    """Measure what would help, and write it beside an evaluation.

    Args:
        folder: The evaluation, with its answers.
        test: The id of the test split.
        network: The id of the network.
        index: The id of the index.
        batch_size: Images read at a time.
    """
    scene = _Scene(test, network, index, batch_size)
    wanted = most(scene.gallery)
    answers, _, _ = read_answers(folder, len(scene.splits["test"]))
    pairs, mistaken = _mistaken(scene.splits["test"], answers)

    of_test = sample(len(scene.splits["test"]), wanted)
    rows = np.union1d(of_test, np.array(sorted(row for those in mistaken.values() for row in those), np.int64))
    embedded = scene.embed(scene.splits["test"], rows)
    tested = scene.look("test", of_test, embedded[np.searchsorted(rows, of_test)])
    some = np.isin(of_test, sample(len(scene.splits["test"]), min(wanted, MOST)))
    write_open_set(folder, scene.gallery, embedded[np.searchsorted(rows, of_test[some])], tested.labels[some])
    of_validation = sample(len(scene.splits["validation"]), wanted)
    validated = scene.look("validation", of_validation, scene.embed(scene.splits["validation"], of_validation))
    drawn, suspicious = _of_gallery(scene, wanted)
    unseen = by_class(
        [each.split.classes[label] for each in (validated, tested) for label in each.split.labels[each.rows]],
        np.concatenate([scene.right(validated), scene.right(tested)]),
    )

    keys = set(scene.splits["train"].rows.keys)
    learned = np.array([drawn.split.rows.keys[row] in keys for row in drawn.rows], bool)
    accuracies = [epoch["validation_accuracy"] for epoch in scene.history]
    found = [
        findings.training_curve(accuracies, len(scene.splits["validation"])),
        findings.overfitting(_share(scene.right(drawn)[learned]), _share(scene.right(validated)), unseen),
        *_confused(scene, pairs, mistaken, rows, embedded),
        _mislabelled(scene, {suspicious: drawn, validated: validated, tested: tested}),
        *_copies(scene),
        findings.few_images(_counts(scene.splits["train"]), unseen),
    ]
    (folder / FILE).write_text(json.dumps([each.as_dict() for each in found], allow_nan=False) + "\n")


def _of_gallery(scene: _Scene, wanted: int) -> tuple[_Looked, _Looked]:
    """Of the gallery a sample, and what is looked at for wrong labels: all of it, or what is far from its class."""
    vectors = scene.gallery.embeddings
    if len(vectors) <= wanted:
        every = scene.look("gallery", np.arange(len(vectors)), np.asarray(vectors))
        return every, every
    half = (wanted + 1) // 2
    drawn, far = sample(len(vectors), half), far_from_their_class(scene.gallery, half)
    return scene.look("gallery", drawn, vectors[drawn]), scene.look("gallery", far, vectors[far])


def _mistaken(
    test: Split, answers: NDArray[np.object_]
) -> tuple[list[tuple[str, str, int]], dict[tuple[str, str], list[int]]]:
    """The wrong answers: true label, answer, and images; and rows of some of these."""
    true = np.array(true_labels(test), object)
    rows: dict[tuple[str, str], list[int]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for row in np.flatnonzero(true != answers).tolist():
        pair = true[row], answers[row]
        counts[pair] += 1
        if counts[pair] <= _CANDIDATES:
            rows.setdefault(pair, []).append(row)
    return [(*pair, count) for pair, count in counts.items()], rows


def _confused(
    scene: _Scene,
    pairs: Sequence[tuple[str, str, int]],
    mistaken: dict[tuple[str, str], list[int]],
    rows: NDArray[np.int64],
    embedded: NDArray[np.float32],
) -> list[Finding]:
    """The pairs of classes that are confused, each with pictures of mistakes beside their nearest neighbours."""
    test, held = scene.splits["test"], scene.splits["gallery"]
    found = findings.confused_pairs(pairs, _counts(test), UNKNOWN)
    for (one, other), finding in found:
        shown = []
        for true, answer in ((one, other), (other, one)):
            some = np.array(mistaken.get((true, answer), []), np.int64)
            if not len(some):
                continue
            cosines, near = nearest_of_class(scene.gallery, embedded[np.searchsorted(rows, some)], scene.number(answer))
            for row, cosine, neighbour in zip(some.tolist(), cosines.tolist(), near.tolist(), strict=True):
                shown.append((-round(cosine, 4), row, neighbour, answer))
        for _, row, neighbour, answer in sorted(shown)[:_PAIRS]:
            finding.images.append({**_shown(test, row), "answer": answer, "neighbour": _shown(held, neighbour)})
    if found:
        return [finding for _, finding in found]
    wrong = sum(count for _, _, count in pairs)
    text = f"No two classes are confused often: {wrong} of {len(test)} test images have a wrong answer."
    return [Finding("confused classes", False, text)]


def _mislabelled(scene: _Scene, looked: dict[_Looked, _Looked]) -> Finding:
    """Images that lie as near to another class as its own images do.

    Args:
        scene: What they come from.
        looked: What is looked at, and beside each an unbiased sample of such images; the first ones were learned.

    Returns:
        The finding. How far neighbours can be trusted is measured on images that were not learned.
    """
    held = scene.splits["gallery"]
    suspects: dict[tuple[str, str], tuple[Any, ...]] = {}
    for each, usual in looked.items():
        agree = usual.votes.agree & usual.has_label_of_neighbours
        near = float(np.quantile(usual.votes.cosine[agree], _CORE)) if agree.any() else np.inf
        for place in np.flatnonzero(each.votes.agree & (each.votes.cosine >= near)).tolist():
            row, label = int(each.rows[place]), held.classes[each.votes.label[place]]
            own = each.split.classes[each.split.labels[row]]
            if label == own:
                continue
            certain = -round(float(each.votes.share[place]), 4), -round(float(each.votes.cosine[place]), 4)
            suspect = (*certain, each.split.names[row], own, label, each, row, int(each.votes.nearest[place]))
            suspects.setdefault((each.split.rows.keys[row], own), suspect)
    worst = sorted(suspects.values(), key=lambda suspect: suspect[:5])
    listed: list[dict[str, Any]] = []
    for *_, name, own, label, each, row, neighbour in worst:
        split = scene.held if each.name == "gallery" else each.name
        one: dict[str, Any] = {"name": name, "split": split, "label": own, "neighbours": label}
        if len(listed) < _PICTURED:
            one |= {"image": _picture(each.split, row), "neighbour": _shown(held, neighbour)}
        listed.append(one)
    agreeing = np.concatenate([each.has_label_of_neighbours[each.votes.agree] for each in [*looked][1:]])
    total = sum(len(split) for split in {id(each.split): each.split for each in looked}.values())
    return findings.mislabelled(listed, sum(len(each.rows) for each in looked), total, _share(agreeing))


def _copies(scene: _Scene) -> list[Finding]:
    """Near copies: a group of them has the name of one of its keys, as `steps/preprocess/plan.py` names it."""
    train = scene.splits["train"].rows
    keys = {key for split in scene.unique() for key in split.rows.keys}
    sizes = [count for group, count in Counter(train.groups).items() if count > 1 and group in keys]
    labels: dict[str, dict[str, str]] = {}
    for split in scene.unique():
        for name, group, label in zip(split.names, split.rows.groups, true_labels(split), strict=True):
            if group in keys:
                labels.setdefault(group, {}).setdefault(label, name)
    several = [
        [(name, label) for label, name in sorted(those.items())]
        for _, those in sorted(labels.items())
        if len(those) > 1
    ]
    copies = sum(sizes) - len(sizes)
    return [
        findings.near_copies(len(train.keys), copies, len(sizes), max(sizes, default=0)),
        findings.copies_across(several),
    ]


def _counts(split: Split) -> dict[str, int]:
    counts = np.bincount(split.labels, minlength=len(split.classes))
    return dict(zip(split.classes, counts.tolist(), strict=True))


def _share(right: NDArray[np.bool_]) -> Share:
    return Share(int(right.sum()), len(right))


def _shown(split: Split, row: int) -> dict[str, Any]:
    label = split.classes[split.labels[row]]
    return {"name": split.names[row], "label": label, "image": _picture(split, row)}


def _picture(split: Split, row: int) -> str:
    """A PNG in base64, of at most `_SIDE` pixels a side."""
    pixels = np.asarray(split.images[row])
    if max(pixels.shape[:2]) > _SIDE:
        small = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
        small.thumbnail((_SIDE, _SIDE))
        pixels = np.asarray(small)
    return base64.b64encode(encode_png(pixels)).decode()
