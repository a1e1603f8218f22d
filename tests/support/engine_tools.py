"""What the tests with real images ask of Docker, and read from what the pipeline's commands print."""

import io
import re
import subprocess
import tarfile
from pathlib import Path


def docker(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Docker's command line."""
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, check=False)


def table(output: str) -> dict[str, str]:
    """The closing table of `images` or `push`: what was done with each image."""
    rows = re.findall(r"^(\w+) +[0-9a-f]{16} .*?([a-z]+(?:, [a-z]+)*)\s*$", output, re.M)
    return dict(rows)


def copy_out(image: str, path: str, to: Path) -> Path:
    """Copy a folder of an image, as it lies there, into the folder `to`, without running anything of it."""
    container = docker("create", image, "true").stdout.strip()
    try:
        done = subprocess.run(["docker", "cp", f"{container}:{path}", "-"], capture_output=True, check=True)
    finally:
        docker("rm", container)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(to, filter="data")
    return to / Path(path).name
