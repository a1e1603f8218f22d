"""Runs `python -m pipeline run` and watches it: when each step's process and work began and ended, and its memory."""

import contextlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from contract.paths import ROOT
from steps.registry import STEP_NAMES

_BEGUN = re.compile(r"^(\w+) \.\.\.$")
_ENDED = re.compile(r"^(\w+): ")
_EPOCH = re.compile(r"^  epoch (\d+)/\d+: ")
_EXECUTOR = "kfp.dsl.executor_main"  # among the words that start the process of a step
_LOG = re.compile(r"^log +(\S.*)$", re.MULTILINE)


@dataclass
class StepTimes:
    """Of one step, in seconds since the run began: its process, and its work, as it says itself.

    Its processor's seconds; and its peak in bytes: resident memory, with the pages of files and of libraries. What its
    processes share is counted once, as the memory limit of a container does, where the system tells.
    """

    spawned: float = 0.0
    begun: float = 0.0
    ended: float = 0.0
    gone: float = 0.0
    cpu: float = 0.0
    peak: int = 0


@dataclass
class Watched:
    """One run: its seconds, its steps in order, the time after each epoch, its last line, and its log."""

    seconds: float = 0.0
    steps: dict[str, StepTimes] = field(default_factory=dict)
    epochs: list[float] = field(default_factory=list)
    last: str = ""
    log: Path = Path()

    @property
    def peak(self) -> int:
        """The most bytes that a step had."""
        return max(step.peak for step in self.steps.values())


def run(volumes: Path, params: Path, every: float = 0.05) -> Watched:
    """Run the pipeline.

    Args:
        volumes: The folder of the volumes.
        params: The parameters.
        every: Seconds between two looks at the processes.

    Returns:
        What was seen.

    Raises:
        RuntimeError: The run failed.
    """
    seen = Watched()
    command = [sys.executable, "-m", "pipeline", "run", "--volumes", str(volumes), "--params", str(params)]
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    times = {name: StepTimes() for name in STEP_NAMES}
    processes: dict[int, _Process] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(every):
            _look(process.pid, processes, began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = ""
    try:
        for line in process.stdout or ():
            output += line
            now = time.perf_counter() - began
            if (found := _BEGUN.match(line)) and found[1] in times:
                times[found[1]].begun = now
            elif (found := _ENDED.match(line)) and found[1] in times:
                times[found[1]].ended = now
            elif _EPOCH.match(line):
                seen.epochs.append(now)
    finally:
        status = process.wait()
        ended.set()
        watcher.join()
    if status:
        raise RuntimeError(f"the run failed with status {status}: {output}")
    seen.seconds = time.perf_counter() - began
    seen.steps = {name: step for name, step in times.items() if step.ended}
    in_order = sorted(processes.values(), key=lambda one: one.spawned)
    for step, one in zip(seen.steps.values(), in_order, strict=False):
        step.spawned, step.gone = one.spawned, max(one.seen, step.ended)
        step.cpu, step.peak = one.cpu, one.peak
    seen.last = output.rstrip().splitlines()[-1]
    if log := _LOG.search(output):
        seen.log = Path(log[1])
    return seen


@dataclass
class _Process:
    """The process of a step: when it was spawned and seen last, its processor's seconds, most bytes with children."""

    spawned: float
    seen: float = 0.0
    cpu: float = 0.0
    peak: int = 0


def _look(runner: int, processes: dict[int, _Process], began: float) -> None:
    total = highest = 0
    step = None
    born = _born(runner)
    for child in _children(runner):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            total += _proportional(child.pid) or child.memory_info().rss
            highest = max(highest, _highest(child.pid))
            if child.name().startswith("python") and _EXECUTOR in child.cmdline():
                step = processes.setdefault(child.pid, _Process(child.create_time() - born))
                used = child.cpu_times()
                step.cpu = used.user + used.system
    if step:
        step.seen = time.perf_counter() - began
        step.peak = max(step.peak, total, highest)


def _born(runner: int) -> float:
    """When the runner was started, by the clock that says when others were."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return float(psutil.Process(runner).create_time())
    return 0.0


def _children(runner: int) -> Iterator[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        yield from psutil.Process(runner).children(recursive=True)


def _proportional(pid: int) -> int:
    """The bytes that a process has, of pages that it shares its part; 0 where the system does not say so."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(rollup.split("\nPss:")[1].split()[0]) * 1024
    return 0


def _highest(pid: int) -> int:
    """The most bytes that a process has had so far, where the system says so."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        status = Path(f"/proc/{pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return 0
