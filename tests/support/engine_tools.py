"""Docker for the tests with real images, and the output of the pipeline's commands."""

import io
import re
import subprocess
import tarfile
from pathlib import Path


def docker(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Docker's command line."""
    return subprocess.run(["docker", *map(str, words)], capture_output=True, text=True, check=False)


def table(output: str) -> dict[str, str]:
    """The closing table of `images` or `push`: the word for each image."""
    rows = re.findall(r"^(\w+) +[0-9a-f]{16} .*?([a-z]+(?:, [a-z]+)*)\s*$", output, re.M)
    return dict(rows)


def copy_out(image: str, path: str, to: Path) -> Path:
    """Copy a folder of an image into the folder `to`, without running the image."""
    container = docker("create", image, "true").stdout.strip()
    try:
        done = subprocess.run(["docker", "cp", f"{container}:{path}", "-"], capture_output=True, check=True)
    finally:
        docker("rm", container)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(to, filter="data")
    return to / Path(path).name
