"""The rules for a dataset: each function reads splits and yields a line for each broken rule.

A line names the split, the rule, the value found and the file. Writes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.common.images.dataset import Split

Splits = Mapping[str, Split]
_NAMED = 3  # examples in the line of a broken rule


def check_shapes(splits: Splits, image_size: int, channels: int) -> Iterator[str]:
    """Yield a line unless images are [N, size, size, channels], labels int64 [N], names N, and N is above 0."""
    wanted = (image_size, image_size, channels)
    for name, split in splits.items():
        labels = split.path / "labels.npy"
        if split.images.shape[1:] != wanted:
            yield _broken(name, f"images have the shape {wanted}", split.images.shape[1:], split.images.folder)
        if split.labels.dtype != np.int64 or split.labels.ndim != 1:
            yield _broken(name, "labels are int64 [N]", f"{split.labels.dtype} {split.labels.shape}", labels)
        if not len(split.images) == len(split.labels) == len(split.names):
            found = f"{len(split.images)} images, {len(split.labels)} labels, {len(split.names)} names"
            yield _broken(name, "as many images as labels and names", found, labels)
        if len(split.images) == 0:
            yield _broken(name, "at least one image (add images, or raise its fraction in data)", 0, split.path)


def check_labels(splits: Splits, min_images_per_class: int, max_class_ratio: float) -> Iterator[str]:
    """Yield a line unless labels are numbers of classes, and training has two classes or more of similar size."""
    for name, split in splits.items():
        file = split.path / "labels.npy"
        wrong = split.labels[(split.labels < 0) | (split.labels >= len(split.classes))]
        if len(wrong):
            yield _broken(name, f"labels are 0 to {len(split.classes) - 1}", wrong[:_NAMED].tolist(), file)
    train = splits["train"]
    found = Counter(train.labels.tolist())
    counts = {label: found[i] for i, label in enumerate(train.classes)}
    file = train.path / "labels.npy"
    if len(counts) < 2:
        yield _broken("train", "at least two classes", sorted(counts), file)
        return
    smallest, largest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[smallest] < min_images_per_class:
        rule = f"at least {min_images_per_class} images in a class (validate.min_images_per_class)"
        yield _broken("train", rule, f"{counts[smallest]} of {smallest!r}", file)
    if counts[largest] > max_class_ratio * counts[smallest]:
        rule = f"the largest class is at most {max_class_ratio:g} times the smallest (validate.max_class_ratio)"
        yield _broken("train", rule, f"{counts[largest]} of {largest!r}, {counts[smallest]} of {smallest!r}", file)


def check_content(splits: Splits, max_duplicate_fraction: float) -> Iterator[str]:
    """Yield a line unless images differ, few are duplicates, and no test image is in another split, by their hashes."""
    hashes = {name: _hashes(split) for name, split in splits.items()}
    for name, split in splits.items():
        facts = split.images.facts
        _, first, which = np.unique(hashes[name], axis=0, return_index=True, return_inverse=True)
        original = first[which.ravel()]
        copies = np.flatnonzero(original != np.arange(len(split)))
        contradictions = [int(row) for row in copies if split.labels[row] != split.labels[original[row]]]

        def pairs(rows: Iterable[int], split: Split = split, original: NDArray[np.intp] = original) -> str:
            return ", ".join(f"{split.names[row]} = {split.names[original[row]]}" for row in islice(rows, _NAMED))

        if contradictions:
            found = f"{len(contradictions)} with two: {pairs(contradictions)}"
            yield _broken(name, "an image has one label", found, split.path)
        if len(first) == 1 or facts["low"].min() == facts["high"].max():
            yield _broken(name, "images differ from one another", "all are alike", split.path)
        elif len(copies) > max_duplicate_fraction * len(split):
            rule = f"at most {max_duplicate_fraction:.1%} duplicates (validate.max_duplicate_fraction)"
            yield _broken(name, rule, f"{len(copies)} of {len(split)}: {pairs(copies)}", split.path)
    test = splits["test"]
    row_of = {each.tobytes(): row for row, each in reversed(list(enumerate(hashes["test"])))}
    for name in sorted(set(splits) - {"test"}):
        shared: dict[int, int] = {}
        for row, each in enumerate(hashes[name]):
            if (there := row_of.get(each.tobytes())) is not None:
                shared.setdefault(there, row)
        if shared:
            names = (f"{test.names[there]} = {splits[name].names[shared[there]]}" for there in sorted(shared))
            found = f"{len(shared)}: {', '.join(islice(names, _NAMED))}"
            yield _broken("test", f"no test image is in {name}", found, test.path)


def _hashes(split: Split) -> NDArray[np.uint64]:
    """A hash uint64 [N, 2] of the pixels of each image."""
    return np.ascontiguousarray(split.images.facts["digest"]).view(np.uint64).reshape(-1, 2)


def check_classes(splits: Splits) -> Iterator[str]:
    """Yield a line unless the classes of test are in the gallery, and those of validation in train."""
    for name, known in (("test", "gallery"), ("validation", "train")):
        unknown = sorted(set(splits[name].classes) - set(splits[known].classes))
        if unknown:
            file = splits[name].path / "classes.json"
            yield _broken(name, f"its classes are in {known}", f"{unknown[:_NAMED]} are not", file)


def per_class(splits: Splits) -> dict[str, int]:
    """The number of images of each class that the source has: in any split, each content once."""
    keys: dict[str, set[str]] = {}
    for split in splits.values():
        for label, key in zip(split.labels.tolist(), split.rows.keys, strict=True):
            keys.setdefault(split.classes[label], set()).add(key)
    return {label: len(found) for label, found in sorted(keys.items())}


def summary(split: Split) -> dict[str, Any]:
    """Return the number of images, their shape, the range and mean of their pixels, and the images of each class."""
    per_class = Counter(split.labels.tolist())
    facts, channels = split.images.facts, split.images.shape[-1]
    pixels = {
        "min": int(facts["low"].min()),
        "max": int(facts["high"].max()),
        "mean": int(facts["sums"][:, :channels].sum()) / split.images.nbytes,
    }
    return {
        "images": len(split),
        "shape": list(split.images.shape[1:]),
        "pixels": pixels,
        "per_class": {label: per_class[i] for i, label in enumerate(split.classes)},
    }


def _broken(split: str, rule: str, found: object, file: object) -> str:
    return f"{split}: {rule}; found {found}; in {file}"
