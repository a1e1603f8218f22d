"""Fixtures for tests of the steps: volumes in a temporary folder, and a small model."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

from tests.support.once import made_once
from tests.support.plain_pictures import draw_nothing

# A shell starts background jobs with SIGINT ignored, and their children inherit that. Tests send SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Workers and the commands that they start share the cores: threads without work sleep, where they would spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of NumPy, whose threads spin nevertheless; before its import
# Objects of imported modules and collected tests are never garbage, and there are so many that each look takes long.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on garbage is collected, of what tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_forced_to_disk() -> Iterator[None]:
    """Which takes long, and no test can tell: it matters when the machine itself stops."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _templates_are_compiled_once() -> Iterator[None]:
    """Each report makes its own environment of Jinja, and compiling the templates takes longer than filling them."""
    compiled: dict[Any, Any] = {}
    compile_template: Callable[..., Any] = Environment.compile

    def once(self: Environment, source: Any, name: Any = None, filename: Any = None, *rest: Any) -> Any:
        key = (source, name, filename, rest, self.autoescape, self.trim_blocks, self.lstrip_blocks)
        if key not in compiled:
            compiled[key] = compile_template(self, source, name, filename, *rest)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Environment, "compile", once)
        yield


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty volumes; VOLUMES names them."""
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    return tmp_path / "volumes"


@pytest.fixture(scope="session")
def few_digits_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    from steps.preprocess.sources.sample import SAMPLE

    path = tmp_path_factory.mktemp("few-digits") / "sample.npz"
    with np.load(SAMPLE) as sample:
        np.savez(path, images=sample["images"][:800], labels=sample["labels"][:800])
    return path


@pytest.fixture
def few_digits(few_digits_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source `sample` has 800 digits instead of 5,000; for tests that need not look at them all."""
    from steps.preprocess.sources import sample

    monkeypatch.setattr(sample, "SAMPLE", few_digits_file)


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict's confusion matrix is not drawn, which takes longer than the verdict; for tests of something else."""
    draw_nothing(monkeypatch)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Any]:
    """A model trained for two epochs on the sample, with its index: ids and volumes. Read only."""
    folder, ids = made_once(tmp_path_factory, worker_id, "small-model", make_small_model)
    return {**ids, "volumes": folder}


def make_small_model(volumes: Path) -> dict[str, str]:
    from steps.embed.embed import embed
    from steps.index.index import index
    from steps.preprocess.preprocess import preprocess
    from steps.train.train import train
    from tests.support.examples import PARAMS

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VOLUMES", str(volumes))
        ids: dict[str, str] = preprocess(PARAMS["data"])
        ids["network"] = train(ids["train"], ids["validation"], {**PARAMS["train"], "epochs": 2})
        ids["embeddings"] = embed(ids["gallery"], ids["network"], PARAMS["embed"])
        ids["index"] = index(ids["embeddings"], PARAMS["index"])
    return ids


@pytest.fixture
def model(small_model: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The small model in volumes that this test may write to."""
    shutil.copytree(small_model["volumes"], tmp_path / "volumes")
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    return {**small_model, "volumes": tmp_path / "volumes"}


@pytest.fixture(scope="session")
def worker_id(request: pytest.FixtureRequest) -> str:
    """As pytest-xdist's, which is not there with `-p no:xdist`."""
    return str(getattr(request.config, "workerinput", {}).get("workerid", "master"))
