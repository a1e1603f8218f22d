"""The matrix of the workflow that builds the images: writes their names as JSON, for one job each."""

import json
import os
from pathlib import Path

from pipeline.images.tag import NAMES


def write_matrix() -> None:
    """Print the names; in GitHub Actions, write them as `images` to the outputs of the step."""
    names = json.dumps(NAMES)
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"images={names}\n")
    else:
        print(names)
