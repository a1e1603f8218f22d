"""Shows the runs that a folder of volumes remembers, and two of them side by side: as tables, as JSON, as a page."""

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from contract.errors import InputError
from pipeline.local.history import Run, changes, find_run, image_by_image, runs, said
from pipeline.page import write_page

_TEMPLATE = Path(__file__).with_name("history.html.jinja")
_WORST = 10  # classes whose accuracies differ most

_Rows = Sequence[Sequence[str]]  # of a table


def show_runs(volumes: Path, console: Console, *, as_json: bool, page: Path | None) -> None:
    """Print the runs, the last one at the end, each with what changed since the one before.

    Args:
        volumes: The folder of the volumes.
        console: Where a person reads.
        as_json: Print a JSON list to standard output instead.
        page: A file to which the table is written as an HTML page, too.

    Raises:
        InputError: The volumes cannot be read, or the page cannot be written.
    """
    found = runs(volumes)
    pairs = list(zip([None, *found], found, strict=False))
    if as_json:
        print(json.dumps([{**_content(now), "changes": changes(before, now)} for before, now in pairs], indent=1))
        return
    head = ("when", "run", "accuracy", "95 %", "outcome", "version", "changed")
    rows = []
    for before, now in pairs:
        named = {**_figures(now), "run": now.id, "changed": "; ".join(changes(before, now))}
        rows.append([named[name] for name in head])
    if not found:
        console.print(f"no runs in {volumes}: make run makes the first", markup=False, highlight=False, soft_wrap=True)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)][:-1]
    for *cells, changed in (head, *rows) if rows else ():
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        below = f"\n    {changed}" if changed != head[-1] else ""
        console.print(line + below, markup=False, highlight=False, soft_wrap=True)
    if page:
        _write_page(page, f"{len(found)} runs", head, [rows], console)


def show_diff(volumes: Path, a: str, b: str, console: Console, *, as_json: bool, page: Path | None) -> None:
    """Print two runs side by side: their figures, and what is different.

    Args:
        volumes: The folder of the volumes.
        a: The one, by the first characters of its id or version; by default the one before the other.
        b: The other; by default the last.
        console: Where a person reads.
        as_json: Print a JSON object to standard output instead.
        page: A file to which the tables are written as an HTML page, too.

    Raises:
        InputError: There are no such runs, or the page cannot be written.
    """
    found = runs(volumes)
    if len(found) < 2 and not (a and b):
        raise InputError(f"there are {len(found)} runs in {volumes}, and two are compared: make run makes another")
    right = find_run(found, b) if b else found[-1]
    left = find_run(found, a) if a else found[max(found.index(right) - 1, 0)]
    compared = image_by_image(left, right)
    if as_json:
        pair = {"a": _content(left), "b": _content(right), "changes": changes(left, right)}
        print(json.dumps({**pair, "image_by_image": compared and dataclasses.asdict(compared)}, indent=1))
        return
    head = ("", left.id, right.id)
    figures = [(name, text, _figures(right)[name]) for name, text in _figures(left).items()]
    tables = [rows for rows in (figures, _differences(left, right), _classes(left, right)) if rows]
    last = "They were not tried on the same images, or their answers are deleted."
    if compared:
        last = (
            f"Of {compared.images} test images, {compared.only_champion} are right in {left.id} alone and "
            f"{compared.only_challenger} in {right.id} alone: {right.id} is {compared.result}."
        )
    for rows in tables:
        console.print(_table(head, rows))
        console.print()
    console.print(last, markup=False, highlight=False, soft_wrap=True)
    if page:
        _write_page(page, f"{left.id} and {right.id}", head, tables, console, last)


def _content(run: Run) -> dict[str, Any]:
    return {**dataclasses.asdict(run), "outcome": run.outcome}


def _figures(run: Run) -> dict[str, str]:
    return {
        "when": f"{datetime.fromisoformat(run.at).astimezone():%Y-%m-%d %H:%M}",
        "outcome": run.outcome,
        "version": f"{run.version or '-'}{' (served)' if run.served else ''}",
        "accuracy": f"{run.accuracy:.4f}",
        "95 %": "{:.4f} to {:.4f}".format(*run.interval) if run.interval else "",
        "worst class": run.worst,
        "unknown": run.unknown,
        "reason": run.reason,
    }


def _differences(left: Run, right: Run) -> list[tuple[str, ...]]:
    rows = []
    code = [{f"code of {step}": digest for step, digest in run.code.items()} for run in (left, right)]
    data = [
        {split: f"{one.images} images of {len(one.classes)} classes, {one.id}" for split, one in run.data.items()}
        for run in (left, right)
    ]
    for one, other in (code, (left.libraries, right.libraries), (left.parameters, right.parameters), data):
        names = [*one, *(name for name in other if name not in one)]
        for name in names:
            cells = [said(values[name]) if name in values else "-" for values in (one, other)]
            if cells[0] != cells[1]:
                rows.append((name, *cells))
    return rows


def _classes(left: Run, right: Run) -> list[tuple[str, ...]]:
    both = {
        label: (before, now)
        for label, now in right.per_class.items()
        if (before := left.per_class.get(label)) is not None and now is not None and before != now
    }
    worst = sorted(both, key=lambda label: -abs(both[label][1] - both[label][0]))[:_WORST]
    return [(f"class {label}", *(f"{share:.4f}" for share in both[label])) for label in worst]


def _table(head: Sequence[str], rows: _Rows) -> Table:
    table = Table(*(Column(name, overflow="fold") for name in head), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _write_page(
    path: Path, title: str, head: Sequence[str], tables: Sequence[_Rows], console: Console, last: str = ""
) -> None:
    write_page(path, _TEMPLATE, title=title, head=head, tables=tables, last=last)
    console.print(f"page: {path}", markup=False, highlight=False, soft_wrap=True)
