"""A stand-in for the command line of Docker or Podman: a script that notes its words and answers as told."""

from pathlib import Path


def engine(folder: Path, name: str = "docker", **answers: str) -> Path:
    """Write the script.

    Args:
        folder: Where; a PATH that begins with it finds the script.
        name: Its name, `docker` or `podman`.
        answers: Lines of shell for a command, such as `manifest="echo denied >&2; exit 1"`; other commands succeed.

    Returns:
        The file with a line of words for each call.
    """
    folder.mkdir(exist_ok=True)
    told = {"version": "echo 28.2.2", "__version": f"echo {name} version 4.9.3", **answers}
    cases = "\n".join(f"{command.replace('__', '--')}) {line} ;;" for command, line in told.items())
    script = folder / name
    script.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/asked\ncase "$1" in\n{cases}\nesac\n')
    script.chmod(0o755)
    return folder / "asked"
