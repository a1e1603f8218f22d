"""A part of a split: reads the split, writes `<data volume>/dataset/<id>/`, whose pixels are those of the whole."""

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steps.common.images import places
from steps.common.images.dataset import KIND, Rows, read_split, write_split
from steps.common.store import produce, read
from steps.common.volumes import data_volume


def part_of(split: str, share: float) -> str:
    """A share of a split's images, at least one of each class.

    Args:
        split: The id of the split.
        share: Above 0, at most 1.

    Returns:
        The id of the part, a split; that of the whole for a share of 1.
    """
    if share == 1:
        return split

    def build(folder: Path) -> dict[str, Any]:
        whole = read_split(split)
        labels = [whole.classes[label] for label in whole.labels]
        chosen = rows_of_part(labels, whole.rows.groups, share)
        columns = whole.rows.__dict__.items()
        rows = Rows(**{name: [values[row] for row in chosen] for name, values in columns})
        pixels = json.loads((whole.path / places.FORMAT).read_text())["folder"]
        write_split(folder, [labels[row] for row in chosen], rows, pixels)
        return {"images": len(chosen)}

    return produce(
        data_volume(),
        KIND,
        "preprocess",
        parameters={**read(data_volume(), KIND, split).manifest["parameters"], "share": share},
        inputs={"split": split},
        build=build,
        code=("steps.common.images.part",),
    ).id


def rows_of_part(labels: Sequence[str], groups: Sequence[str], share: float) -> list[int]:
    """The rows of a part: a share of each class's groups, rounded up, and a larger part holds a smaller one.

    Args:
        labels: The label of each image.
        groups: Its group, which is not taken apart within a class.
        share: Above 0, at most 1.

    Returns:
        The rows, in order.
    """
    of_class: dict[str, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        of_class.setdefault(label, set()).add(group)
    chosen = {
        label: set(sorted(those, key=_place)[: math.ceil(round(share * len(those), 9))])
        for label, those in of_class.items()
    }
    return [row for row, (label, group) in enumerate(zip(labels, groups, strict=True)) if group in chosen[label]]


def _place(group: str) -> tuple[bytes, str]:
    """Its place among groups. By their names, which are their smallest keys, large groups would come first."""
    return hashlib.blake2b(group.encode(), digest_size=8).digest(), group
