"""`python3 -m install`, which `make install` runs: .venv with the locked packages, made, mended or left as it is."""

import argparse
import fcntl
import os
import signal
import sys
import time

from install import environment, torch
from install.errors import InstallError
from install.packages import QUIET_SECONDS, Installer, show
from install.pythons import KNOWN, find_python


def main(words: "list[str] | None" = None) -> int:
    """Install; the exit status is 0 for done, 2 for what somebody has to change first, 130 for interrupted."""
    parser = argparse.ArgumentParser(prog="python3 -m install", description="Install the locked packages into .venv.")
    parser.add_argument("--python", default="", help="its Python (default: .venv's own, else the newest of 3.11-3.13)")
    parser.add_argument("--torch", default="", help="auto, cpu or cuda (default: what was chosen before, else auto)")
    options = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        torch.check(options.torch)
        if not _done(options.python, options.torch):
            with _Alone() as lock:
                if not _done(options.python, options.torch):
                    _install(options.python, options.torch, lock.fileno())
    except InstallError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; make install goes on from here", file=sys.stderr)
        return 130
    return 0


def _done(python: str, asked: str) -> bool:
    """Whether everything is there, as it is asked for."""
    wanted = find_python(python).version if python else None
    stamp = environment.read_stamp()
    if not environment.whole(stamp) or (asked and torch.build(asked) != stamp["build"]):
        return False
    if environment.version() not in ([wanted] if wanted else KNOWN):
        return False
    if asked not in ("", stamp["choice"]):
        environment.write_stamp(**dict(stamp, choice=asked))
    return True


def _install(python: str, asked: str, lock: int) -> None:
    stamp, there = environment.read_stamp(), environment.version()
    choice = asked or stamp.get("choice", torch.AUTO)
    build = stamp["build"] if not asked and "build" in stamp else torch.build(choice)
    if there not in KNOWN or (python and there != find_python(python).version):
        chosen = find_python(python)
        show("making .venv with Python %s, %s" % (chosen.version, chosen.path))
        environment.make(chosen)
        there = chosen.version
    environment.write_stamp(choice=choice)
    environment.forget_unfinished()
    installer = Installer(lock)
    torch.install(installer, build)
    installer.install(["-r", os.path.join(environment.ROOT, "requirements.txt")], "the other packages, 0.3 GB to fetch")
    environment.write_stamp(
        choice=choice,
        build=build,
        torch=torch.installed(),
        python=there,
        folder=os.path.realpath(environment.VENV),
        locks=environment.locks_digest(),
    )


class _Alone:
    """One installation at a time in this folder: another waits."""

    def __enter__(self) -> "_Alone":
        self._folder = os.open(environment.ROOT, os.O_RDONLY)
        waited = 0
        while True:
            try:
                fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self
            except BlockingIOError:
                if waited % QUIET_SECONDS == 0:
                    show("another make is installing here: waiting for it, %d s so far" % waited)
            time.sleep(1)
            waited += 1

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def fileno(self) -> int:
        """What holds the lock, and holds it on in a process that has it too."""
        return self._folder


if __name__ == "__main__":
    sys.exit(main())
