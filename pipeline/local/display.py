"""Shows a run on the console: reads the steps' events from the output of the runner, writes progress and a table.

The whole output, with the events, goes to the log file.
"""

import io
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Column, Table
from rich.text import Text

from contract.events import Epoch, Event, Failed, Finished, Progress, Resumed, Started, Waiting, Warned, joined, parse
from steps.registry import SHOWN, STEP_NAMES


class EventLog(io.StringIO):
    """A text stream that writes everything to a log file, and passes each event on."""

    def __init__(self, log: TextIO, on_event: Callable[[Event], None]) -> None:
        """Start with an empty line.

        Args:
            log: The log file.
            on_event: Called with each event.
        """
        super().__init__()
        self._log = log
        self._on_event = on_event
        self._line = ""

    def write(self, text: str) -> int:
        """Write text, which may be a part of a line or several lines, and return its length."""
        self._log.write(text)
        self._log.flush()
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if event := parse(line):
                self._on_event(event)
        return len(text)


class RunDisplay:
    """Shows the progress of one run, and keeps the events that the closing lines need."""

    def __init__(self, console: Console) -> None:
        """Start before the first step.

        Args:
            console: Where progress is shown.
        """
        self.console = console
        self.finished: dict[str, Finished] = {}
        self.seconds: dict[str, float] = {}
        self.step: str | None = None  # running, or failed
        self.failure: str | None = None
        self._since = time.monotonic()
        self._progress = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "RunDisplay":
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        """Show an event of a step."""
        match event:
            case Started():
                self.step = event.step
                self._task = self._progress.add_task(event.step, total=None, detail="")
                if not self.console.is_terminal:
                    self._print(f"{event.step} ...")
            case Finished():
                self.finished[event.step] = joined(self.finished.get(event.step), event)
                # Since the end of the step before, so the time includes the start of Python and the imports.
                now = time.monotonic()
                self.seconds[event.step] = self.seconds.get(event.step, 0.0) + now - self._since
                self._since = now
                self.step = None
                self._end_task()
                self._print(f"{event.step}: {'unchanged, ' if event.unchanged else ''}{event.made}")
            case Failed():
                self.failure = event.error
                self._end_task()
            case Epoch():
                detail = f"loss {event.loss:.3f}, {event.validation_accuracy:.2%} on validation"
                self._advance(event.epoch, event.epochs, detail)
                if not self.console.is_terminal:
                    self._print(f"  epoch {event.epoch}/{event.epochs}: {detail}")
            case Progress():
                self._advance(event.done, event.total, f"{event.doing}, {event.done} {event.unit}")
            case Resumed():
                self._print(f"  resuming after epoch {event.epoch}")
            case Waiting() | Warned():
                self._print(f"  {event.message}")

    def table(self) -> Table:
        """A row for each step: its seconds or `unchanged`, and what it made."""
        table = Table(*(Column(name, no_wrap=True) for name in ("step", "seconds")), "made", box=None, pad_edge=False)
        for step in (each.name for each in SHOWN if each.name in self.finished or each.name in STEP_NAMES):
            if event := self.finished.get(step):
                seconds = "unchanged" if event.unchanged else f"{self.seconds[step]:.1f}"
                table.add_row(step, seconds, Text(event.made))
            else:
                table.add_row(step, "-", "not run")
        return table

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _advance(self, done: int, total: int, detail: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, detail=detail)

    def _end_task(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
