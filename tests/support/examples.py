"""What tests of the steps start from: the repository's own parameters, and small folders of real digits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from contract.paths import ROOT
from steps.preprocess.sources.sample import SAMPLE

PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def write_images(folder: Path, labels: Mapping[str, str], first: int = 0, count: int = 12) -> None:
    """Put `count` digits of each label, from the `first` on, into `<folder>/<label>/`; labels map to digits."""
    with np.load(SAMPLE) as sample:
        images, digits = sample["images"], sample["labels"]
    for label, digit in labels.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for row in np.flatnonzero(digits == int(digit))[first : first + count]:
            Image.fromarray(images[row]).save(folder / label / f"{row}.png")


def judging(**change: Any) -> dict[str, dict[str, Any]]:
    """The sections that `analyse` takes, with some of their values changed."""
    sections = {"gate": PARAMS["gate"], "batches": PARAMS["embed"], "parameters": PARAMS["analyse"]}
    sections |= {"search": PARAMS["deploy"]}
    assert change.keys() <= {key for section in sections.values() for key in section}
    return {name: {key: change.get(key, value) for key, value in each.items()} for name, each in sections.items()}
