"""Shows the progress of building and pushing on the console: the image in work, and a closing table."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_MEGABYTE = 1_000_000


@dataclass
class _Row:
    image: str
    states: list[str] = field(default_factory=list)
    seconds: float | None = None
    size: int | None = None


class ImageProgress:
    """What was done with each image: `there`, `pulled`, `built` or `pushed`."""

    def __init__(self, console: Console) -> None:
        """Start with no image.

        Args:
            console: Where progress is shown.
        """
        self._console = console
        self._rows: dict[str, _Row] = {}

    def record(self, name: str, image: str, state: str, size: int | None = None) -> None:
        """Record the state of an image, unless it has one, and its size.

        Args:
            name: The step, or serving.
            image: The full name of the image.
            state: Its state.
            size: Its size in bytes, if known.
        """
        row = self._rows.setdefault(name, _Row(image))
        if not row.states:
            row.states.append(state)
        row.size = size or row.size

    @contextmanager
    def working(self, name: str, image: str, state: str) -> Iterator[Callable[[str], None]]:
        """Show and time the work on an image.

        Args:
            name: The step, or serving.
            image: The full name of the image.
            state: Its state after the work.

        Yields:
            A function that shows a line of output.
        """
        row = self._rows.setdefault(name, _Row(image))
        began = time.monotonic()
        columns = (SpinnerColumn(), *(TextColumn(text) for text in ("{task.description}", "{task.fields[line]}")))
        hidden = not self._console.is_terminal
        with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True, disable=hidden) as progress:
            task = progress.add_task(name, total=None, line="")
            yield lambda line: progress.update(task, line=line[:80].replace("[", "\\["))
        seconds = time.monotonic() - began
        row.seconds = (row.seconds or 0) + seconds
        row.states = [*(before for before in row.states if before != "there"), state]
        self._console.print(f"{name}: {state} in {seconds:.1f} s", markup=False, highlight=False)

    def table(self) -> Table:
        """A row for each image: its tag, seconds of work, size, and states."""
        table = Table("image", "tag", "seconds", "MB", "", box=None, pad_edge=False)
        for name, row in self._rows.items():
            seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
            size = "" if row.size is None else f"{row.size / _MEGABYTE:.0f}"
            table.add_row(name, row.image.rpartition(":")[2], seconds, size, ", ".join(row.states))
        for column in table.columns[2:4]:
            column.justify = "right"
        return table
