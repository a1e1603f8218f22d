"""An interpreter that says of itself what a test wants; `-m venv` and pip do as if, and write down how they are called.

A shell script of its name stands for it, which answers what is asked most often by itself and starts this with its own
path before the words. Beside that lie <path>.facts, what it says of itself, and <path>.json: `version`; `pip`, its
settings; `fails`, words of the calls that fail.
"""

import json
import os
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

ME = Path(sys.argv.pop(1))


def main(words: list[str], settings: dict[str, Any]) -> int:
    if words[:2] == ["-m", "install"]:
        sys.argv, sys.path[0] = ["install", *words[2:]], os.getcwd()
        runpy.run_module("install", run_name="__main__")
    with open(os.environ["CALLS"], "a") as file:
        print(json.dumps({"words": words, "environment": dict(os.environ)}), file=file)
    for fault in settings["fails"]:
        if fault in " ".join(words):
            print(f"ERROR: {fault} fails here")
            return 1
    if words[:2] == ["-m", "venv"]:
        return make(Path(words[2]), settings)
    if words[0].endswith("torch_build.py"):
        print("torch==2.13.0+cpu" if words[1] == "cpu" else "torch==2.13.0")
        return 0
    if words[2:4] == ["config", "list"]:
        print("\n".join(f"{key}={value!r}" for key, value in settings["pip"].items()))
    if words[2] in ("install", "uninstall"):
        packages(words, settings)
    return 0


def make(venv: Path, settings: dict[str, Any]) -> int:
    """A folder as `python -m venv` makes it, with this script in it."""
    (venv / "bin").mkdir(parents=True)
    (venv / f"lib/python{settings['version']}/site-packages").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"version = {settings['version']}.1\n")
    (venv / "bin/pip").write_text(f"#!{venv}/bin/python\n")
    copy(venv / "bin/python")
    return 0


def copy(path: Path) -> None:
    for suffix in ("", ".facts", ".json"):
        shutil.copy2(f"{ME}{suffix}", f"{path}{suffix}")


def packages(words: list[str], settings: dict[str, Any]) -> None:
    """Installed or removed: torch as a record, uv as this script."""
    venv = ME.parents[1]
    place = venv / f"lib/python{settings['version']}/site-packages"
    lock = Path(words[-1]).read_text() if "-r" in words else ""
    if words[2] == "uninstall" or "torch==" in lock:
        for old in place.glob("torch-*"):
            shutil.rmtree(old)
    if "torch==" in lock:
        folder = place / f"{lock.split()[0].replace('==', '-')}.dist-info"
        folder.mkdir()
        (folder / "RECORD").write_text(f"{folder.name}/RECORD,,\n{folder.name}/METADATA,,4\n")
        (folder / "METADATA").write_text("text")
    if "uv==" in lock and lock.count("==") == 1:
        copy(venv / "bin/uv")


if __name__ == "__main__":
    told = json.loads(Path(f"{ME}.json").read_text())
    arguments = sys.argv[1:]
    if ME.name == "uv":
        arguments = ["-m", "uv", *arguments[1:]]
    sys.exit(main(arguments, told))
