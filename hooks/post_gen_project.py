"""Finishes a new project, in its folder: checks that links became files, removes caches, prints the next command."""

import shutil
import sys
from pathlib import Path

for path in Path().iterdir():
    if path.is_file() and path.read_bytes().strip() == f"../{path.name}".encode():
        sys.exit(
            f"The template's links are not links but text files ({path.name}), as Git makes them where "
            "core.symlinks is false and some zip programs do: clone it with git clone -c core.symlinks=true "
            "(on Windows: in WSL, or with developer mode on)."
        )

for cache in [*Path().glob("*/**/__pycache__"), *Path().glob(".*_cache")]:
    shutil.rmtree(cache)

print(f"{Path.cwd().name} is ready: cd {Path.cwd().name} && make run")
