"""The matrix of the workflow that builds images: writes their names as JSON, for one job each."""

import json
import os
from collections.abc import Sequence
from pathlib import Path


def write_matrix(names: Sequence[str]) -> None:
    """Print the names; in GitHub Actions, also write them as `images` to the outputs of the step.

    Args:
        names: The images to build.
    """
    text = json.dumps(list(names))
    print(text)
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"images={text}\n")
