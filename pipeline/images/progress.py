"""What building and pushing shows: a line while something is done, and a closing table; writes to the console."""

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
    done: list[str] = field(default_factory=list)
    seconds: float | None = None
    size: int | None = None


class Work:
    """What was done with each image."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rows: dict[str, _Row] = {}

    def done(self, word: str) -> list[str]:
        """The images that were `there`, `built` or `pushed`."""
        return [name for name, row in self._rows.items() if word in row.done]

    def note(self, name: str, image: str, word: str, size: int | None = None) -> None:
        """Remember what an image was found to be, and its size."""
        row = self._rows.setdefault(name, _Row(image))
        if not row.done:
            row.done.append(word)
        row.size = size or row.size

    @contextmanager
    def doing(self, name: str, image: str, word: str) -> Iterator[Callable[[str], None]]:
        """Time some work on an image, which yields where its words go, the last of which is shown."""
        row = self._rows.setdefault(name, _Row(image))
        began = time.monotonic()
        columns = (SpinnerColumn(), *(TextColumn(text) for text in ("{task.description}", "{task.fields[says]}")))
        hidden = not self._console.is_terminal
        with Progress(*columns, TimeElapsedColumn(), console=self._console, transient=True, disable=hidden) as progress:
            task = progress.add_task(name, total=None, says="")
            yield lambda line: progress.update(task, says=line[:80].replace("[", "\\["))
        seconds = time.monotonic() - began
        row.seconds = (row.seconds or 0) + seconds
        row.done = [*(before for before in row.done if before != "there"), word]
        self._console.print(f"{name}: {word} in {seconds:.1f} s", markup=False, highlight=False)

    def table(self) -> Table:
        """A line an image: its tag, what was done and in how long, and its size."""
        table = Table("image", "tag", "seconds", "MB", "", box=None, pad_edge=False)
        for name, row in self._rows.items():
            seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
            size = "" if row.size is None else f"{row.size / _MEGABYTE:.0f}"
            table.add_row(name, row.image.rpartition(":")[2], seconds, size, ", ".join(row.done))
        for column in table.columns[2:4]:
            column.justify = "right"
        return table
