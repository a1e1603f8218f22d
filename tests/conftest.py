"""Fixtures that tests of the steps share: volumes in a temporary folder, small folders of images, a small model."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from steps.common.digest import ROOT
from steps.preprocess.sources import SAMPLE

PARAMS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty volumes, which the steps find."""
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    return tmp_path / "volumes"


def write_images(folder: Path, labels: Mapping[str, str], first: int = 0, count: int = 12) -> None:
    """Put `count` digits of each label, from the `first` on, into `<folder>/<label>/`; labels map to digits."""
    with np.load(SAMPLE) as sample:
        images, digits = sample["images"], sample["labels"]
    for label, digit in labels.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for row in np.flatnonzero(digits == int(digit))[first : first + count]:
            Image.fromarray(images[row]).save(folder / label / f"{row}.png")


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A model trained for two epochs on the sample, up to its index: ids and volumes. To be read only."""
    from steps.embed import embed
    from steps.index import index
    from steps.preprocess import preprocess
    from steps.train import train

    volumes = tmp_path_factory.mktemp("small-model")
    before = os.environ.get("VOLUMES")
    os.environ["VOLUMES"] = str(volumes)
    try:
        ids: dict[str, Any] = preprocess(**PARAMS["data"])
        ids["network"] = train(ids["train"], ids["validation"], **{**PARAMS["train"], "epochs": 2})
        ids["embeddings"] = embed(ids["gallery"], ids["network"], **PARAMS["embed"])
        ids["index"] = index(ids["embeddings"], **PARAMS["index"])
    finally:
        os.environ.pop("VOLUMES")
        if before is not None:
            os.environ["VOLUMES"] = before
    return {**ids, "volumes": volumes}


@pytest.fixture
def model(small_model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The small model in volumes of this test's own, to be written to."""
    shutil.copytree(small_model["volumes"], tmp_path / "volumes")
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    return {**small_model, "volumes": tmp_path / "volumes"}
