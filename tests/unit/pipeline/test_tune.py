"""`make tune`: the search, with a training whose accuracy is known."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from rich.console import Console

from contract.errors import ProjectError
from pipeline.local import tune as tuning
from pipeline.settings import Params
from steps.common.errors import DivergedError, StepError
from steps.common.images.dataset import KIND, Rows, write_split
from steps.common.store import produce
from steps.common.volumes import data_volume, model_volume
from steps.preprocess.preprocess import preprocess
from steps.preprocess.sources.weights import Weights
from steps.train.parameters import Train
from steps.train.train import train
from tests.support.examples import PARAMS
from tests.support.examples import write_images as write_digits
from tests.support.lockless import no_locks
from tests.support.stored_images import store_images


class Tried(list[Train]):
    """The parameters of each training; the number of a training here makes it fail."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_at: dict[int, BaseException] = {}


@pytest.fixture
def tried(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> Tried:
    """The parameters that were trained with; a network is the better, the nearer its margin is to 0.3."""
    found = Tried()

    def split(parameters: object, training: object) -> tuple[dict[str, str], Weights]:
        def build(folder: Path) -> dict[str, Any]:
            keys = [f"{row:032x}" for row in range(100)]
            store_images("8x8x1-test", keys, np.zeros((100, 8, 8, 1), np.uint8))
            write_split(folder, ["a", "b"] * 50, Rows(keys, keys, keys, [""] * 100), "8x8x1-test")
            return {"images": 100}

        grey = {"image_size": 8, "channels": 1}
        made = produce(data_volume(), KIND, "preprocess", parameters=grey, inputs={}, build=build)
        return {"train": made.id, "validation": made.id}, Weights()

    def train(train_split: str, validation_split: str, parameters: Train, weights: str) -> str:
        found.append(parameters)
        if error := found.fail_at.get(len(found)):
            raise error
        facts = {"validation_accuracy": 1 - abs(parameters.margin - 0.3)}
        return produce(
            model_volume(), "network", "train", parameters=parameters.deciding(), inputs={}, build=lambda _: facts
        ).id

    monkeypatch.setattr(tuning, "prepare", split)
    monkeypatch.setattr(tuning, "train", train)
    monkeypatch.setattr(tuning, "_draw", lambda trials, path: path.touch())
    return found


def search(volumes: Path, trials: int, minutes: float = 30, **values: float) -> str:
    console = Console(record=True, width=120, file=io.StringIO())
    params = Params.model_validate({**PARAMS, "train": {**PARAMS["train"], **values}})
    try:
        tuning.tune(params, volumes, console, trials=trials, minutes=minutes)
    finally:
        text = console.export_text()
    return text


def test_it_begins_with_the_own_values_and_ends_with_the_best(volumes: Path, tried: Tried) -> None:
    text = search(volumes, 15, margin=0.6)
    own = {**PARAMS["train"], "margin": 0.6, "scale": 30.0}  # what `auto` is for grey images of 8 pixels
    assert tried[0] == Train(**own).resolved("")
    assert len(tried) == 15
    best = min(tried, key=lambda parameters: abs(parameters.margin - 0.3))
    lines = yaml.safe_load(text.partition("for params.yaml:")[2])["train"]
    assert Train(**{**own, **lines}).resolved("") == best


def test_what_is_tried_stays_in_its_range(volumes: Path, tried: Tried) -> None:
    search(volumes, 12)
    for name, field in tuning.tuned_fields().items():
        values = [getattr(parameters, name) for parameters in tried[1:]]
        assert field.low <= min(values) < max(values) <= field.high
    others = [parameters.model_dump(exclude=set(tuning.tuned_fields())) for parameters in tried]
    assert all(each == others[0] for each in others)


def test_a_later_call_goes_on(volumes: Path, tried: Tried) -> None:
    search(volumes, 3)
    assert len(tried) == 3
    search(volumes, 3)
    assert len(tried) == 3
    search(volumes, 5)
    assert len(tried) == 5
    assert len({json.dumps(parameters.model_dump()) for parameters in tried}) == 5


def test_other_data_or_fixed_parameters_are_another_search(volumes: Path, tried: Tried) -> None:
    search(volumes, 2)
    search(volumes, 2, epochs=29)
    assert len(tried) == 4
    search(volumes, 2, in_memory_mb=1)  # has no effect on a result
    assert len(tried) == 4


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_trial_is_tried_again(volumes: Path, tried: Tried, end: type[BaseException]) -> None:
    tried.fail_at[2] = end()  # Optuna keeps an interrupted trial as failed, and one that was killed as running
    with pytest.raises(end):
        search(volumes, 4)
    search(volumes, 4)
    assert len(tried) == 5
    assert tried[1] == tried[2]
    search(volumes, 4)
    assert len(tried) == 5


def test_a_training_that_diverges_is_one_trial(volumes: Path, tried: Tried) -> None:
    tried.fail_at[2] = DivergedError("the loss is nan")
    assert "3 trials" in search(volumes, 4)
    assert len(tried) == 4
    search(volumes, 4)
    assert len(tried) == 4


def test_another_error_ends_the_search(volumes: Path, tried: Tried) -> None:
    tried.fail_at[1] = StepError("the volume is full")
    with pytest.raises(StepError, match="full"):
        search(volumes, 4)
    assert len(tried) == 1


def test_no_trial_begins_after_the_time(volumes: Path, tried: Tried) -> None:
    assert "no trial" in search(volumes, 4, minutes=1e-9)
    assert len(tried) == 0


def test_two_searches_at_once(volumes: Path, tried: Tried) -> None:
    search(volumes, 1)
    [folder] = model_volume().glob("tune/*/")
    with FileLock(folder / ".lock"), pytest.raises(ProjectError, match="already"):
        search(volumes, 2)


def test_a_search_without_locks_is_refused(volumes: Path, tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    search(volumes, 1)
    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(ProjectError, match=r"cannot be locked \(No locks available\), so nothing keeps two searches"):
        search(volumes, 2)
    assert len(tried) == 1


@pytest.mark.slow
def test_a_later_run_finds_the_network_of_a_trial(volumes: Path) -> None:
    write_digits(volumes / "data/images/train", {"a": "0", "b": "1"}, count=30)
    params = {**PARAMS, "data": {**PARAMS["data"], "source": "folder"}, "train": {**PARAMS["train"], "epochs": 1}}
    tuning.tune(Params.model_validate(params), volumes, Console(quiet=True), trials=2, minutes=1)
    networks = {path.name for path in (volumes / "model/network").iterdir() if path.is_dir()}
    splits = preprocess(params["data"])
    assert len(networks) == 2
    assert train(splits["train"], splits["validation"], params["train"]) in networks
    [plot] = model_volume().glob("tune/*/trials.png")
    assert Image.open(plot).width > 1000
