"""A run with nothing to do ends after preprocess, by the graph itself; it is the graph that runs on Kubeflow."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.events import Event, Finished, Settled
from pipeline.images.build import references
from pipeline.local.display import EventLog
from pipeline.local.subprocesses import run_in_subprocesses
from pipeline.pipeline import arguments, build_pipeline
from pipeline.settings import load_params, load_project
from steps.registry import STEP_NAMES
from tests.support.examples import OPEN_GATE, PARAMS
from tests.support.settings import PROJECT_FILE

pytestmark = pytest.mark.slow
PROJECT = load_project(PROJECT_FILE)
BEFORE_DEPLOY = list(STEP_NAMES[:-1])


def run(folder: Path, code: str, **change: dict[str, Any]) -> tuple[list[str], str]:
    """The steps that ran, and what preprocess said of the end."""
    given = {"train": {"epochs": 1}, "gate": OPEN_GATE, **change}
    sections = {name: {**values, **given.get(name, {})} for name, values in PARAMS.items()}
    (folder / "params.yaml").write_text(yaml.safe_dump(sections))
    params, events = load_params(folder / "params.yaml"), list[Event]()
    with (folder / "log").open("w") as log:
        pipeline = build_pipeline(PROJECT, references(PROJECT), code=code)
        run_in_subprocesses(pipeline, arguments(PROJECT, params), EventLog(log, events.append))
    settled = [event.outcome for event in events if isinstance(event, Settled)]
    return [event.step for event in events if isinstance(event, Finished)], "".join(settled)


def test_a_run_with_nothing_to_do_ends_after_its_first_step(volumes: Path, tmp_path: Path) -> None:
    assert run(tmp_path, "code") == (list(STEP_NAMES), "")
    steps, outcome = run(tmp_path, "code")
    assert steps == ["preprocess"]
    assert outcome.startswith("UNCHANGED ")
    assert "accuracy 0." in outcome
    assert run(tmp_path, "other code") == (list(STEP_NAMES), ""), "where each step finds its result"
    assert run(tmp_path, "") == (list(STEP_NAMES), "")


def test_a_rejected_run_is_not_repeated_either(volumes: Path, tmp_path: Path) -> None:
    strict = {"gate": {**OPEN_GATE, "baseline": 1.0}}
    assert run(tmp_path, "code", **strict) == (BEFORE_DEPLOY, "")
    steps, outcome = run(tmp_path, "code", **strict)
    assert steps == ["preprocess"]
    assert outcome.startswith("REJECTED accuracy 0.")
    assert run(tmp_path, "code") == (list(STEP_NAMES), ""), "with another gate"
