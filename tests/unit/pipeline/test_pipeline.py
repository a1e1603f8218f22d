"""The graph: each step in its image, no cache of kfp, a condition on work to do, and the gate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from kfp import compiler, dsl

from contract.events import Event, Resumed, Started
from pipeline import components
from pipeline.local.display import EventLog
from pipeline.local.subprocesses import run_in_subprocesses
from pipeline.pipeline import arguments, build_pipeline
from pipeline.settings import load_params, load_project
from steps.registry import STEP_NAMES, STEPS
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

PROJECT, PARAMS = load_project(PROJECT_FILE), load_params(PARAMS_FILE)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    pipeline = build_pipeline(PROJECT, {step: f"registry.example/{step}:1" for step in STEP_NAMES})
    compiler.Compiler().compile(pipeline, str(path))
    spec: dict[str, Any] = yaml.safe_load(path.read_text())
    return spec


def tasks(compiled: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tasks at every depth."""
    for dag in (compiled["root"], *compiled["components"].values()):
        yield from dag.get("dag", {}).get("tasks", {}).items()


def test_every_step_has_its_image_and_its_title(compiled: dict[str, Any]) -> None:
    steps = {name: task for name, task in tasks(compiled) if name in STEP_NAMES}
    assert set(steps) == set(STEP_NAMES)
    assert {name: task["taskInfo"]["name"] for name, task in steps.items()} == {step.name: step.title for step in STEPS}
    executors = compiled["deploymentSpec"]["executors"]
    for step in STEP_NAMES:
        assert executors[f"exec-{step}"]["container"]["image"] == f"registry.example/{step}:1"


def test_no_task_at_any_depth_is_cached(compiled: dict[str, Any]) -> None:
    assert [
        name for name, task in tasks(compiled) if name in STEP_NAMES and task["cachingOptions"].get("enableCache")
    ] == []


def test_no_step_installs_anything(compiled: dict[str, Any]) -> None:
    assert "pip install" not in yaml.safe_dump(compiled)


def test_deploy_depends_on_the_condition_on_accuracy(compiled: dict[str, Any]) -> None:
    """Each condition is a pod on Kubeflow, so there are two: whether there is work, and the gate."""
    assert set(compiled["root"]["dag"]["tasks"]) == {"preprocess", "condition-1"}
    conditions = [task["triggerPolicy"]["condition"] for _, task in tasks(compiled) if "triggerPolicy" in task]
    assert sorted(conditions) == [
        "inputs.parameter_values['pipelinechannel--analyse-accepted_accuracy'] > "
        "inputs.parameter_values['pipelinechannel--baseline']",
        "inputs.parameter_values['pipelinechannel--preprocess-settled'] == false",
    ]
    (gated,) = [
        set(dag["dag"]["tasks"])
        for dag in compiled["components"].values()
        if "deploy" in str(dag.get("dag")) and "deploy" in dag["dag"]["tasks"]
    ]
    assert gated == {"deploy"}


def test_thresholds_and_scores_are_numbers(compiled: dict[str, Any]) -> None:
    inputs = compiled["root"]["inputDefinitions"]["parameters"]
    assert inputs["baseline"]["parameterType"] == "NUMBER_DOUBLE"
    outputs = compiled["components"]["comp-analyse"]["outputDefinitions"]
    assert outputs["parameters"]["accuracy"]["parameterType"] == "NUMBER_DOUBLE"
    assert outputs["parameters"]["accepted_accuracy"]["parameterType"] == "NUMBER_DOUBLE"
    kinds = {name: artifact["artifactType"]["schemaTitle"] for name, artifact in outputs["artifacts"].items()}
    assert kinds == {
        "metrics": "system.Metrics",
        "confusion": "system.ClassificationMetrics",
        "report": "system.HTML",
        "card": "system.Markdown",
    }


def test_training_waits_for_validation(compiled: dict[str, Any]) -> None:
    assert "validate" in dict(tasks(compiled))["train"]["dependentTasks"]


def test_preprocess_knows_every_parameter_of_a_run(compiled: dict[str, Any]) -> None:
    """It ends a run whose parameters are those of the last one, so none may be unknown to it."""
    given = compiled["root"]["dag"]["tasks"]["preprocess"]["inputs"]["parameters"]
    known = {value["componentInputParameter"] for value in given.values() if "componentInputParameter" in value}
    # What the server does with a new version leaves nothing to do for a run that makes none.
    assert known == set(compiled["root"]["inputDefinitions"]["parameters"]) - {"serving"}


def test_preprocess_compares_every_parameter(volumes: Path) -> None:
    def work(**change: Any) -> str:
        given = {**arguments(PROJECT, PARAMS), **change}
        del given["serving"]
        return str(components.preprocess(**given, code="code")[-2])

    first = work()
    assert first == work()
    for name, value in arguments(PROJECT, PARAMS).items():
        if name not in ("data", "serving"):  # data decides the ids; what the server does is not compared
            other: Any = {**value, "other": 1} if isinstance(value, dict) else f"{value}1"
            assert work(**{name: other}) != first, name


def test_every_parameter_has_a_value_and_none_a_default(compiled: dict[str, Any]) -> None:
    inputs = compiled["root"]["inputDefinitions"]["parameters"]
    assert set(inputs) == set(arguments(PROJECT, PARAMS))
    assert not [name for name, definition in inputs.items() if "defaultValue" in definition]


@pytest.mark.parametrize(
    ("accuracy", "better", "deployed"), [(0.9, True, True), (0.8, True, False), (0.1, True, False), (0.9, False, False)]
)
def test_conditions_on_named_outputs_work_in_a_local_run(
    tmp_path: Path, accuracy: float, better: bool, deployed: bool
) -> None:
    @dsl.component(base_image="python", install_kfp_package=False)
    def analyse(accuracy: float, better: bool) -> NamedTuple("Outputs", [("accuracy", float), ("better", bool)]):  # type: ignore[valid-type]
        return accuracy, better

    @dsl.component(base_image="python", install_kfp_package=False)
    def deploy(path: str) -> None:
        open(path, "w").close()

    @dsl.pipeline  # type: ignore[untyped-decorator]
    def gate(accuracy: float, better: bool, baseline: float, path: str) -> None:
        scores = analyse(accuracy=accuracy, better=better)
        with dsl.If(scores.outputs["accuracy"] > baseline):  # noqa: SIM117
            with dsl.If(scores.outputs["better"] == True):  # noqa: E712
                deploy(path=path)

    given = {"accuracy": accuracy, "better": better, "baseline": 0.8, "path": str(tmp_path / "deployed")}
    with (tmp_path / "log").open("w") as log:
        run_in_subprocesses(gate, given, log)
    assert (tmp_path / "deployed").exists() is deployed


def test_the_log_gets_everything_and_events_are_passed_on(tmp_path: Path) -> None:
    events: list[Event] = []
    with (tmp_path / "log").open("w") as log:
        stream = EventLog(log, events.append)
        print("    chatter", '{"event": "resu', sep="\n", end="", file=stream)
        print('med", "epoch": 2}', '    {"event": "started", "step": "x"}', sep="\n", file=stream)
    assert events == [Resumed(2), Started("x")]
    assert "chatter\n" in (tmp_path / "log").read_text()
