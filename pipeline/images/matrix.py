"""The matrix of the workflow that builds the images: writes their names as JSON, for one job each."""

import json
import os
from pathlib import Path

from pipeline.images.tag import NAMES


def write_matrix() -> None:
    """Write the names, as `images`, to the outputs of the step of GitHub Actions that runs this; elsewhere print them."""
    names = json.dumps(NAMES)
    if path := os.environ.get("GITHUB_OUTPUT"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(f"images={names}\n")
    else:
        print(names)
