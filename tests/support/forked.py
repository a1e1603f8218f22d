"""Runs commands in forks of one process that has imported what they need.

Each command is a process of its own, with its own environment, output and exit status. Only the imports are done once,
since those of kfp or cookiecutter take longer than what is tested. What a command says while it imports is not seen:
each file of tests that uses this starts one command for real, too.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self


class Forked:
    """`python -m <module>` in a folder, again and again.

    Args:
        folder: The folder.
        module: The module.
        imports: What is imported once; of `module:function` the function is called once, too.
        environment: What the imports see.
    """

    def __init__(self, folder: Path, module: str, imports: tuple[str, ...], environment: Mapping[str, str]) -> None:
        words = [sys.executable, __file__, module, *imports]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._process = subprocess.Popen(words, cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload]
        self._folder = folder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self, *words: str | Path, environment: Mapping[str, str], cwd: Path | None = None, answers: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the command with these words and this environment alone."""
        command = [*map(str, words)]
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder, name) for name in ("in", "out", "err")]
            streams[0].write_text(answers)
            told = [command, dict(environment), str(cwd or self._folder), [*map(str, streams)]]
            self._process.stdin.write(json.dumps(told) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(command, status, *(path.read_text() for path in streams[1:]))


def _serve(module: str, imports: list[str]) -> None:
    """Fork for each line of the standard input, and print the exit status of the fork."""
    import gc
    import importlib
    import runpy

    sys.path[0] = os.getcwd()
    sys.path.append(str(Path(__file__).parents[2]))  # of `tests`
    for name in imports:
        module_name, _, function = name.partition(":")
        imported = importlib.import_module(module_name)
        if function:
            getattr(imported, function)()
    sys.path.pop()
    gc.freeze()
    asked, answer = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    for line in asked:
        words, environment, folder, streams = json.loads(line)
        pid = os.fork()
        if not pid:
            for number, path in enumerate(streams):
                os.dup2(os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT), number)
            os.environ.clear()
            os.environ.update(environment)
            os.chdir(folder)
            sys.argv = [module, *words]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answer, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
