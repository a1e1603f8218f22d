"""Fixtures for tests of the steps: volumes in a temporary folder, and a small model."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.examples import PARAMS

# A shell starts background jobs with SIGINT ignored, and their children inherit that. Tests send SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty volumes; VOLUMES names them."""
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    return tmp_path / "volumes"


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict's confusion matrix is not drawn, which takes longer than the verdict; for tests of something else."""
    from PIL import Image

    from steps.analyse import evaluate

    monkeypatch.setattr(evaluate, "_draw", lambda _matrix, _classes, path: Image.new("L", (1, 1)).save(path))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A model trained for two epochs on the sample, with its index: ids and volumes. Read only."""
    from steps.embed.embed import embed
    from steps.index.index import index
    from steps.preprocess.preprocess import preprocess
    from steps.train.train import train

    volumes = tmp_path_factory.mktemp("small-model")
    before = os.environ.get("VOLUMES")
    os.environ["VOLUMES"] = str(volumes)
    try:
        ids: dict[str, Any] = preprocess(PARAMS["data"])
        ids["network"] = train(ids["train"], ids["validation"], {**PARAMS["train"], "epochs": 2})
        ids["embeddings"] = embed(ids["gallery"], ids["network"], PARAMS["embed"])
        ids["index"] = index(ids["embeddings"], PARAMS["index"])
    finally:
        os.environ.pop("VOLUMES")
        if before is not None:
            os.environ["VOLUMES"] = before
    return {**ids, "volumes": volumes}


@pytest.fixture
def model(small_model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The small model in volumes that this test may write to."""
    shutil.copytree(small_model["volumes"], tmp_path / "volumes")
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    return {**small_model, "volumes": tmp_path / "volumes"}
