"""Memory that the processes of a step share is counted once."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from benchmarks import watch

_BYTES = 32 << 20
_MAPS = """
import mmap, sys
with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
    mapped[::4096]
    print(flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is shared")
def test_a_file_that_two_processes_map_is_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes(bytes(_BYTES))
    command = [sys.executable, "-S", "-c", _MAPS, str(path)]
    with ExitStack() as ended:
        pipe = subprocess.PIPE
        both = [ended.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)) for _ in range(2)]
        for each in both:
            assert each.stdout is not None
            assert each.stdout.readline() == "\n"
        resident = sum(psutil.Process(each.pid).memory_info().rss for each in both)
        counted = sum(watch._proportional(each.pid) for each in both)
    assert _BYTES < counted < resident - _BYTES // 2
    assert watch._proportional(both[0].pid) == 0
