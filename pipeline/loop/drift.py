"""Shows how what is served differs from what analyse saw on test: as a table, as JSON, as a page."""

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console

from contract.loop.drift import Word
from pipeline.loop.drift_table import HEAD, compared, rows_of
from pipeline.loop.server_metrics import served_by
from steps.common.errors import StepError
from steps.drift.measure import Measured, keep, measure
from steps.drift.parameters import Drift

# Of a script that asks; 1 and 2 are errors.
STATUS = {Word.NONE: 0, Word.WATCH: 3, Word.RETRAIN: 4}


def show_drift(parameters: Drift, metrics: str, console: Console, *, as_json: bool, page: Path | None) -> int:
    """Compare, print the result, and keep it for the server's metrics.

    Args:
        parameters: The section `drift` of `params.yaml`.
        metrics: The address of a server's metrics, where no image was collected.
        console: Where a person reads.
        as_json: Print a JSON object to standard output instead.
        page: A file to which the result is written as an HTML page, with pictures, too.

    Returns:
        The exit status: 0 for none, 3 for watch, 4 for retrain.

    Raises:
        InputError: Nothing is served, nothing tells what was answered, or the page cannot be written.
        StepError: The pointer or the archive cannot be read.
    """
    found = measure(parameters, partial(served_by, metrics))
    try:
        keep(found)
    except StepError as error:
        print(f"the server's metrics do not tell of this: {error}", file=sys.stderr)
    if as_json:
        findings = [
            {**asdict(each), "word": str(each.word), "limits": [each.size.small, each.size.large]}
            for each in found.comparison.findings
        ]
        print(json.dumps({**asdict(found.record), "findings": findings}, indent=1))
    else:
        _print(found, console)
    if page:
        from pipeline.loop.drift_page import write_page

        write_page(page, found)
        console.print(f"page: {page}", markup=False, highlight=False, soft_wrap=True)
    return STATUS[found.comparison.word]


def _print(found: Measured, console: Console) -> None:
    rows = rows_of(found)
    widths = [max(map(len, column)) for column in zip(HEAD, *rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (HEAD, *rows)] if rows else []
    for line in (*table, "", compared(found), f"{found.comparison.word}: {found.comparison.why}"):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
