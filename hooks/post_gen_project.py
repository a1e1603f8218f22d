"""Finishes a new project, in its folder: checks links, removes caches, names the default branch, says what is next."""

import shutil
import subprocess
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


def ask_git(*words: str) -> str:
    """What Git prints; nothing where it has no answer, or is not there."""
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607
    except OSError:
        return ""


# The default branch of the repository that the project is put into, or of new ones.
branch = ask_git("symbolic-ref", "--short", "refs/remotes/origin/HEAD").removeprefix("origin/")
branch = branch or ask_git("config", "init.defaultBranch") or "master"
readme, workflow = Path("README.md"), Path(".github/workflows/ct.yml")
readme.write_text(readme.read_text(encoding="utf-8").replace("`master`", f"`{branch}`"), encoding="utf-8")
if branch not in ("master", "main"):  # which the workflow has
    told = workflow.read_text(encoding="utf-8").replace("[master, main]", f'[master, main, "{branch}"]')
    workflow.write_text(told, encoding="utf-8")

print(f"{Path.cwd().name} is ready: cd {Path.cwd().name} && make run")
