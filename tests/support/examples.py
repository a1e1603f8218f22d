"""What tests of the steps start from: parameters of their own, and small folders of real digits."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from steps.preprocess.sources.sample import SAMPLE
from tests.support.settings import PARAMS_FILE

PARAMS: dict[str, Any] = yaml.safe_load(PARAMS_FILE.read_text(encoding="utf-8"))
# A gate for tests of something else: it accepts whatever a short training learned.
OPEN_GATE: dict[str, Any] = {**PARAMS["gate"], "baseline": 0.0, "worst_class_floor": 0.0, "max_unknown": 1.0}


def write_images(folder: Path, labels: Mapping[str, str], first: int = 0, count: int = 12) -> None:
    """Put `count` digits of each label, from the `first` on, into `<folder>/<label>/`; labels map to digits."""
    with np.load(SAMPLE) as sample:
        images, digits = sample["images"], sample["labels"]
    for label, digit in labels.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for row in np.flatnonzero(digits == int(digit))[first : first + count]:
            Image.fromarray(images[row]).save(folder / label / f"{row}.png")


def judging(**change: Any) -> dict[str, dict[str, Any]]:
    """The sections that `analyse` takes, with some of their values changed and otherwise an open gate."""
    sections = {"gate": OPEN_GATE, "batches": PARAMS["embed"], "parameters": PARAMS["analyse"]}
    sections |= {"search": PARAMS["deploy"]}
    assert change.keys() <= {key for section in sections.values() for key in section}
    return {name: {key: change.get(key, value) for key, value in each.items()} for name, each in sections.items()}
