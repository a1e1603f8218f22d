"""Analysis: scores network and index on the test split, and the model now served on the same split.

Writes `<model volume>/evaluation/<id>/` for each of the two, and `<model volume>/verdict/<id>/` with `verdict.json` and
the report page `report.html`.
"""

import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from steps.analyse.verdict import Score, Verdict, judge
from steps.common import progress
from steps.common.dataset import read_split
from steps.common.errors import StepError
from steps.common.parameters import typed
from steps.common.pointer import MODEL_STORE, pointer_path, read_pointer, rolled_back
from steps.common.store import Artefact, produce, read
from steps.common.volumes import deploy_volume, model_volume

STEP = "analyse"


class Settings(TypedDict):
    """How to score: images a batch, and how many golden ones and mistakes to keep."""

    batch_size: int
    golden: int
    mistakes: int


@dataclass(frozen=True)
class Analysis:
    """What the pipeline learns: the verdict and its id, the classes, the confusion matrix and the report's path."""

    verdict: Verdict
    id: str
    classes: list[str]
    confusion: list[list[int]]
    report: Path


@typed
def analyse(
    test: str,
    network: str,
    index: str,
    *,
    baseline: float,
    worst_class_floor: float,
    batch_size: int,
    golden: int,
    mistakes: int,
) -> Analysis:
    """Judge the network and index of these ids on the test split of this id.

    Raises StepError if the model now served cannot be scored: nobody could say then which is better.
    """
    settings: Settings = {"batch_size": batch_size, "golden": golden, "mistakes": mistakes}
    with progress.running(STEP):
        evaluation = _evaluation(test, network, index, settings, served=None)
        champion, champion_evaluation = read_pointer(), None
        if champion:
            champion_evaluation = _evaluation(test, champion["network"], champion["index"], settings, champion)
        taken_out = rolled_back(champion, network, index)
        is_champion = champion_evaluation is not None and champion_evaluation.id == evaluation.id
        verdict = judge(
            _score(evaluation),
            _score(champion_evaluation) if champion_evaluation else None,
            baseline=baseline,
            worst_class_floor=worst_class_floor,
            is_champion=is_champion,
            rolled_back=taken_out,
        )
        details = json.loads((evaluation.path / "evaluation.json").read_text())
        made = produce(
            model_volume(),
            "verdict",
            STEP,
            parameters={"baseline": baseline, "worst_class_floor": worst_class_floor, "rolled_back": taken_out},
            inputs={"evaluation": evaluation.id, "champion": champion_evaluation.id if champion_evaluation else None},
            build=partial(_write, verdict, evaluation, champion, {"test": test, "network": network, "index": index}),
        )
        progress.finished(
            STEP,
            made=f"accuracy {verdict.accuracy:.2%}, worst class {verdict.worst_label} {verdict.worst_accuracy:.2%}",
            # Against a new champion the verdict is written anew, but no image is scored twice.
            unchanged=evaluation.unchanged and (champion_evaluation is None or champion_evaluation.unchanged),
            id=made.id,
            verdict=asdict(verdict),
            classes=details["classes"],
            confusion=details["confusion"],
            report=str(made.path / "report.html"),
        )
        return Analysis(verdict, made.id, details["classes"], details["confusion"], made.path / "report.html")


def _evaluation(test: str, network: str, index: str, settings: Settings, served: Mapping[str, str] | None) -> Artefact:
    """The evaluation of a network and an index from the store, or of those in the MAR that is served."""

    def build(folder: Path) -> dict[str, Any]:
        from steps.analyse.evaluate import evaluate

        split = read_split(test)
        if served is None:
            stored = (read(model_volume(), "network", network).path, read(model_volume(), "index", index).path)
            return evaluate(split, *stored, folder, **settings)
        with tempfile.TemporaryDirectory() as unpacked:
            _unpack(deploy_volume() / MODEL_STORE / served["mar"], Path(unpacked))
            return evaluate(split, Path(unpacked), Path(unpacked), folder, **settings)

    recipe = {"golden": settings["golden"], "mistakes": settings["mistakes"]}
    inputs = {"test": test, "network": network, "index": index}
    return produce(model_volume(), "evaluation", STEP, parameters=recipe, inputs=inputs, build=build)


def _unpack(mar: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(mar) as archive:
            archive.extractall(folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise StepError(
            f"the model now served, {mar}, cannot be read ({error}), so nobody can say whether the new one is better: "
            f"restore it from backup/, or remove {pointer_path()} to deploy against the baseline alone"
        ) from error


def _score(evaluation: Artefact) -> Score:
    return Score(evaluation.facts["accuracy"], evaluation.facts["per_class"])


def _write(
    verdict: Verdict,
    evaluation: Artefact,
    champion: Mapping[str, str] | None,
    ids: Mapping[str, str],
    folder: Path,
) -> dict[str, Any]:
    from steps.analyse.report import render

    champion_version = champion["version"] if champion else None
    (folder / "verdict.json").write_text(
        json.dumps({**asdict(verdict), "champion": champion_version, **ids, "evaluation": evaluation.id}, indent=2)
        + "\n"
    )
    (folder / "report.html").write_text(render(verdict, evaluation, champion_version, ids))
    return {"better": verdict.better, "reason": verdict.reason, **ids, "evaluation": evaluation.id}
