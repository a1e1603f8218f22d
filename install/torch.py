"""TORCH, the build of torch: what may be asked for, what that means on this machine, and what is installed.

Which requirement that is, and whether an index has it, steps/torch_build.py says, here and in the images' builds.
"""

import os
import re
import shutil
import subprocess
import sys

from install import environment
from install.errors import InstallError
from install.packages import Installer, show
from install.pip_settings import environment as pip_environment

AUTO, CPU, CUDA = "auto", "cpu", "cuda"
SIZES = {CPU: "0.2 GB", CUDA: "3 GB"}  # to fetch


def check(asked: str) -> None:
    """Raise InstallError for a value of TORCH that is wrong, or wrong here; empty: nothing was asked for."""
    if asked not in ("", AUTO, CPU, CUDA):
        raise InstallError("TORCH: is %r; it must be auto, cpu or cuda" % asked)
    if asked == CUDA and sys.platform != "linux":
        raise InstallError("TORCH: is 'cuda', and torch has a CUDA build for Linux alone; here it must be auto or cpu")


def build(choice: str) -> str:
    """The build that a choice means on this machine."""
    return (CUDA if driver_seen() else CPU) if choice == AUTO else choice


def driver_seen() -> bool:
    """Whether NVIDIA's driver is here; that of Windows shows itself in WSL by its library."""
    if sys.platform != "linux":
        return False
    if os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/usr/lib/wsl/lib/libcuda.so.1"):
        return True
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        nowhere = subprocess.DEVNULL
        return subprocess.run([command, "-L"], stdout=nowhere, stderr=nowhere, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def told(choice: str, build: str, version: str) -> str:
    """What is installed and why, for people."""
    why = "TORCH=%s" % choice
    if choice == AUTO:
        why += ", and NVIDIA's driver was %s" % ("seen" if build == CUDA else "not seen")
    if build == CPU and sys.platform == "linux" and "+cpu" not in version:
        why += "; the ordinary build, since the CPU build could not be had"
    return "%s, the %s build (%s): make install TORCH=cpu or cuda chooses" % (version, build.upper(), why)


def installed() -> str:
    """The version of torch in .venv; empty if there is none."""
    for name in os.listdir(environment.packages_folder()):
        found = re.match(r"torch-([^-]+)\.dist-info$", name)
        if found:
            return found.group(1)
    return ""


def install(installer: Installer, wanted: str) -> None:
    """Have this build, or what takes its place; libraries that only another one needs are removed."""
    requirements = _requirements(wanted)
    ordinary = "+cpu" not in requirements
    before = installed()
    if before and (("+" in before) == ordinary):
        installer.uninstall(["torch"] if ordinary else _cuda_only())
    environment.check_space(CUDA if ordinary else CPU)
    what = "torch, %s to fetch" % SIZES[CUDA if ordinary and sys.platform == "linux" else CPU]
    path = os.path.join(environment.VENV, "torch.txt")
    with open(path, "w", encoding="utf-8") as file:
        file.write(requirements)
    installer.install(["-r", path], what)


def _requirements(wanted: str) -> str:
    """What pip is to be given, as steps/torch_build.py finds it out; its sentence is shown."""
    done = subprocess.run(
        [environment.PYTHON, os.path.join(environment.ROOT, "steps", "torch_build.py"), wanted],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
        env=pip_environment(),
    )
    said = done.stderr.decode("utf-8", "replace").strip()
    if done.returncode:
        raise InstallError(said)
    if said:
        show(said)
    return done.stdout.decode("utf-8")


def _cuda_only() -> "list[str]":
    """torch, and what comes with its CUDA build and is in no other lock."""
    names = []
    for lock in ("steps/torch-cuda.txt", "requirements.txt"):
        with open(os.path.join(environment.ROOT, lock), encoding="utf-8") as file:
            names.append(set(re.findall(r"^([a-z][\w.-]*)==", file.read(), re.MULTILINE)))
    return sorted(names[0] - names[1] | {"torch"})
