"""The folder .venv: whether it is whole and of this folder, what it was made for, and making it anew.

`.venv/installed.json` is written last, so what an installation did not finish is never taken for whole.
"""

import csv
import getpass
import hashlib
import json
import os
import re
import shutil
import subprocess

from install.errors import InstallError
from install.pip_settings import environment
from install.pythons import Python, ask

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "installed.json")
PYTHON = os.path.join(VENV, "bin", "python")
LOCKS = ("requirements.txt", "steps/torch.txt", "steps/torch-cuda.txt")
SPACE = {"cpu": 2.5, "cuda": 7.0}  # gigabytes that must be free


def locks_digest() -> str:
    """Of all that an installation follows from."""
    digest = hashlib.sha256()
    for name in LOCKS:
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read() + b"\0")
    return digest.hexdigest()[:16]


def read_stamp() -> "dict[str, str]":
    """What the last installation wrote, of whatever folder; empty if there is none."""
    try:
        with open(STAMP, encoding="utf-8") as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def whole(stamp: "dict[str, str]") -> bool:
    """Whether an installation of these very locks ended in this very folder."""
    return stamp.get("folder") == os.path.realpath(VENV) and stamp.get("locks") == locks_digest()


def write_stamp(**facts: str) -> None:
    """Say what is installed; an installation that has not ended says no more than what was chosen."""
    with open(STAMP + ".new", "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
    os.replace(STAMP + ".new", STAMP)


def version() -> "str | None":
    """The version of .venv's Python; None if .venv is broken, of another folder, or was never finished being made."""
    facts = ask(PYTHON) if os.path.exists(PYTHON) else None
    try:
        with open(os.path.join(VENV, "pyvenv.cfg"), encoding="utf-8") as file:
            made = re.search(r"^version\w* = (\d+\.\d+)", file.read(), re.MULTILINE)
        with open(os.path.join(VENV, "bin", "pip"), encoding="utf-8") as file:
            start = file.read(4096)
    except OSError:
        return None
    if facts is None or made is None or facts["version"] != made.group(1):
        return None
    here = os.path.join(os.path.realpath(os.path.join(VENV, "bin")), "")
    return made.group(1) if here in start else None


def make(python: Python) -> None:
    """A new .venv, with pip in it and nothing else; what was there is removed."""
    if os.pathsep in ROOT:
        raise InstallError(
            "the folder %s has a %r in its name, which no virtual environment can have: move or rename it"
            % (ROOT, os.pathsep)
        )
    if not os.access(ROOT, os.W_OK):
        raise InstallError(
            "the folder %s cannot be written by %s: give it to yourself (sudo chown -R), or copy it to one of yours"
            % (ROOT, getpass.getuser())
        )
    try:
        if os.path.islink(VENV) or os.path.isfile(VENV):
            os.remove(VENV)
        elif os.path.isdir(VENV):
            shutil.rmtree(VENV)
        done = subprocess.run(
            [python.path, "-m", "venv", VENV],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            env=environment(),
        )
    except OSError as error:
        fault = "%s: %s" % (error.filename, error.strerror)
        raise InstallError("%s cannot be made anew (%s): remove it" % (VENV, fault)) from error
    if done.returncode or version() is None:
        words = done.stdout.decode("utf-8", "replace").strip().splitlines()
        raise InstallError(
            "%s -m venv failed in %s: %s" % (python.path, VENV, words[-1] if words else "status %d" % done.returncode)
        )


def check_space(build: str) -> None:
    """Raise InstallError where the packages would not fit."""
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < SPACE[build]:
        raise InstallError(
            "%s has %.1f GB left and %.1f GB are needed to install: make room, or move the folder to another disk"
            % (ROOT, free, SPACE[build])
        )


def packages_folder() -> str:
    """Where its packages are."""
    return os.path.join(VENV, "lib", "python%s" % version(), "site-packages")


def forget_unfinished() -> None:
    """Remove the records of packages that are not whole, so that they are installed again."""
    folder = packages_folder()
    for name in sorted(os.listdir(folder)):
        record = os.path.join(folder, name, "RECORD")
        if name.endswith(".dist-info") and not _whole(folder, record):
            shutil.rmtree(os.path.join(folder, name))


def _whole(folder: str, record: str) -> bool:
    """Whether every file that a package's record lists is there, in the size that it had."""
    try:
        with open(record, encoding="utf-8", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
        return bool(rows) and all(
            os.path.getsize(os.path.join(folder, row[0])) == int(row[2] or -1) for row in rows if row[2]
        )
    except (OSError, ValueError, IndexError):
        return False
