"""Shows how the images of the source are split, and why; trains nothing, and keeps no draw."""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.settings import Params
from steps.preprocess.collect import Collected, collect
from steps.preprocess.draw import LEFT_OUT, TEST, TRAIN, VALIDATION
from steps.preprocess.plan import GALLERY
from steps.preprocess.sources.auto_format import resolved

_SPLITS = (TRAIN, VALIDATION, GALLERY, TEST, LEFT_OUT)
_SHORT = 12  # digits of a key that a person compares


def show_splits(params: Params, volumes: Path, console: Console, *, as_json: bool) -> None:
    """Print each image with its split, group, key and the reason, then the counts of each class.

    Args:
        params: `params.yaml`, whose section `data` says what the source is and how it is split.
        volumes: The folder of the volumes.
        console: Where a person reads.
        as_json: Print a JSON list of `{name, label, split, group, key, why}` to standard output instead.

    Raises:
        StepError: if the source cannot be read.
    """
    os.environ["VOLUMES"] = str(volumes.absolute())
    with contextlib.redirect_stdout(sys.stderr):  # the step's events are not the answer
        parts = params.data.chosen_source().read()
        collected = collect(params.data, resolved(params.data, parts["train"], params.data.max_pixels), parts)
    rows = list(_rows(collected))
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=1))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        text = f"{row['name']:<{width}}  {row['split']:<10}  {row['group'][:_SHORT]:<{_SHORT}}  {row['key'][:_SHORT]}"
        console.print(f"{text:<{width + 40}}  {row['why']}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    console.print(_counts(rows))


def _rows(collected: Collected) -> Iterator[dict[str, str]]:
    for one in collected.planned:
        item = one.item
        yield {
            "name": item.name,
            "label": item.label,
            "split": one.split,
            "group": one.group,
            "key": item.key,
            "why": one.why,
        }
    labels = {name: label for part in collected.parts.values() for name, label in zip(part.names, part.labels)}  # noqa: B905
    for name, trouble in collected.unreadable.items():
        yield {"name": name, "label": labels[name], "split": LEFT_OUT, "group": "", "key": "", "why": str(trouble)}


def _counts(rows: Sequence[dict[str, str]]) -> Table:
    counts = Counter((row["label"], row["split"]) for row in rows)
    table = Table("class", *_SPLITS, box=None, pad_edge=False)
    for label in sorted({row["label"] for row in rows}):
        table.add_row(label, *(str(counts[label, split]) for split in _SPLITS))
    table.add_row("all", *(str(sum(row["split"] == split for row in rows)) for split in _SPLITS))
    for column in table.columns[1:]:
        column.justify = "right"
    return table
