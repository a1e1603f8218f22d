"""Measures the first and the second `python -m pipeline run`: seconds and peak memory of each step."""

import contextlib
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from contract.paths import ROOT
from steps.registry import STEP_NAMES


def measure() -> list[tuple[str, str]]:
    """Run the pipeline twice in temporary volumes; rows of a name and its figure."""
    with tempfile.TemporaryDirectory() as folder:
        first, seconds, peaks = _run(Path(folder))
        second, _, _ = _run(Path(folder))
    rows = [("first run, seconds", f"{first:.1f}"), ("second run, seconds", f"{second:.1f}")]
    for step in STEP_NAMES:
        rows.append((f"  {step}: seconds, peak MiB", f"{seconds[step]:>5.1f} {peaks[step] / 2**20:>6.0f}"))
    return rows


def _run(volumes: Path) -> tuple[float, dict[str, float], dict[str, int]]:
    """Total seconds, seconds by step, and each step's peak resident memory in bytes, summed over its processes."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", "--volumes", volumes], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    peaks = dict.fromkeys(STEP_NAMES, 0)
    running = STEP_NAMES[0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peaks[running] = max(peaks[running], _resident(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = ""
    for line in process.stdout or ():
        output += line
        if started := re.match(r"(\w+) \.\.\.$", line):
            running = started[1]
    ended.set()
    watcher.join()
    if process.wait():
        raise RuntimeError(f"the run failed with status {process.returncode}: {output}")
    table = dict(re.findall(r"^(\w+) +(\d+\.\d|unchanged) ", output, re.MULTILINE))
    return time.perf_counter() - began, {s: float(v) for s, v in table.items() if v != "unchanged"}, peaks


def _resident(runner: int) -> int:
    """Resident memory in bytes of all processes below the runner; shared pages count once per process."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(runner).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += child.memory_info().rss
    return total
