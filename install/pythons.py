"""Which Python .venv is made of: asks each one that is there about itself, and writes nothing."""

import glob
import json
import os
import shutil
import subprocess
from typing import NamedTuple

from install.errors import InstallError

MINORS = (13, 12, 11)  # of Python 3, the best first
KNOWN = tuple("3.%d" % minor for minor in MINORS)
# The Makefile says the same where there is no Python at all.
NEED = (
    "Python 3.11 to 3.13 is needed: on Debian and Ubuntu, apt install python3 python3-venv; on macOS, "
    "brew install python@3.13; anywhere, uv python install 3.13 (https://docs.astral.sh/uv)"
)
SECONDS = 30
_PLATFORMS = (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"))
_ASK = """
import json, platform, struct, sys, sysconfig
try:
    import ensurepip
except ImportError:
    ensurepip = None
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "ensurepip": ensurepip is not None,
    "implementation": platform.python_implementation(),
    "threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "bits": struct.calcsize("P") * 8,
    "system": platform.system(),
    "machine": platform.machine(),
    "musl": "musl" in str(sysconfig.get_config_var("SOABI")),
}))
"""

Python = NamedTuple("Python", [("path", str), ("version", str)])


class UnfitError(InstallError):
    """An interpreter that is there and will not do."""


def find_python(asked: str) -> Python:
    """The one that was asked for, by name or path; else the best that is there. Raises InstallError."""
    if asked:
        places = _places(os.path.expanduser(asked))
        for path in places:
            facts = ask(path)
            if facts is not None:
                return examine(asked, path, facts)
        fault = "%s does not run" % asked if places else "there is no %s here" % asked
        raise InstallError("PYTHON: %s; %s" % (fault, NEED))
    faults = []
    for name in ["python" + version for version in KNOWN] + ["python3", "python"]:
        for path in _places(name):
            facts = ask(path)
            if facts is None:
                continue  # as a shim of pyenv for a version that is not chosen
            try:
                return examine(path, path, facts)
            except UnfitError as error:
                faults.append(error)
    raise faults[0] if faults else InstallError("there is no Python here that runs; %s" % NEED)


def ask(path: str) -> "dict[str, object] | None":
    """What an interpreter says of itself; None if it does not run."""
    try:
        done = subprocess.run(
            [path, "-E", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=SECONDS,
        )
        facts = json.loads(done.stdout.decode("utf-8", "replace"))  # type: dict[str, object]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return facts


def examine(name: str, path: str, facts: "dict[str, object]") -> Python:
    """The interpreter, if it will do; raises UnfitError."""
    version, system, machine = (str(facts[key]) for key in ("version", "system", "machine"))
    if version not in KNOWN:
        old = [int(part) for part in version.split(".")] < [3, MINORS[-1]]
        raise UnfitError("%s is Python %s, which is too %s; %s" % (name, version, "old" if old else "new", NEED))
    if facts["implementation"] != "CPython" or facts["threaded"]:
        kind = "free-threaded Python" if facts["threaded"] else facts["implementation"]
        raise UnfitError("%s is %s, which torch has no build for; ordinary %s" % (name, kind, NEED))
    if facts["bits"] != 64 or (system, machine) not in _PLATFORMS or facts["musl"]:
        libc = ", musl" if facts["musl"] else ""
        raise UnfitError(
            "%s is of %s on %s (%s bits%s), which torch has no build for: take Linux with glibc (Debian, Ubuntu, "
            "Fedora) on x86_64 or aarch64, or macOS on Apple silicon" % (name, system, machine, facts["bits"], libc)
        )
    if not facts["ensurepip"]:
        package = "python%s-venv" % version
        raise UnfitError(
            "%s cannot make a virtual environment, since Debian and Ubuntu keep what it needs in the package %s: "
            "apt install %s" % (name, package, package)
        )
    return Python(path, version)


def _places(name: str) -> "list[str]":
    """Everywhere on the path, and where uv and GitHub's runners keep interpreters beside it."""
    folders = [*os.get_exec_path(), os.path.join(os.path.expanduser("~"), ".local", "bin")]
    folders += sorted(glob.glob(os.path.join(os.environ.get("RUNNER_TOOL_CACHE", "-"), "Python", "*", "*", "bin")))
    found = [shutil.which(name, path=folder) for folder in ([""] if os.path.dirname(name) else folders)]
    return [path for path in found if path is not None]
