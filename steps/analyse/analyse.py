"""Analysis: scores network and index on the test split, and the model now served on the same split.

Writes `<model volume>/evaluation/<id>/` for each of the two, and `<model volume>/verdict/<id>/` with `verdict.json` and
the report page `report.html`.
"""

import json
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from contract.pointer import MODEL_STORE, Record, pointer_path
from steps.analyse.verdict import Score, Verdict, judge
from steps.common import progress
from steps.common.dataset import read_split
from steps.common.errors import StepError
from steps.common.parameters import typed
from steps.common.pointer import read_pointer
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
    validation: str,
    *,
    baseline: float,
    worst_class_floor: float,
    batch_size: int,
    golden: int,
    mistakes: int,
    unknown_quantile: float,
) -> Analysis:
    """Judge the network and index of these ids on the test split of this id.

    The validation split says from which distance on an image is unknown, for the server alone: the verdict is about
    the nearest label.

    Raises StepError if the model now served cannot be scored: nobody could say then which is better.
    """
    settings: Settings = {"batch_size": batch_size, "golden": golden, "mistakes": mistakes}
    with progress.running(STEP):
        inputs = {"test": test, "network": network, "index": index}
        calibration = _calibration(validation, network, index, batch_size, unknown_quantile)
        evaluation = _evaluation(inputs, settings, calibration.facts["unknown_distance"])
        champion, champion_evaluation = read_pointer(), None
        is_champion = champion is not None and (champion.network, champion.index) == (network, index)
        if champion:
            champion_evaluation = evaluation if is_champion else _evaluation_of_served(champion, test, settings)
        taken_out = champion.why_out_of_service(network, index) if champion else None
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
            build=partial(_write, verdict, evaluation, champion, inputs),
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


def _calibration(validation: str, network: str, index: str, batch_size: int, unknown_quantile: float) -> Artefact:
    """From which distance on an image is unknown to a network and an index from the store."""

    def build(_: Path) -> dict[str, Any]:
        from steps.analyse.calibrate import calibrate

        split, stored = read_split(validation), _stored(network, index)
        return calibrate(split, *stored, batch_size=batch_size, unknown_quantile=unknown_quantile)

    inputs = {"validation": validation, "network": network, "index": index}
    recipe = {"unknown_quantile": unknown_quantile}
    return produce(model_volume(), "calibration", STEP, parameters=recipe, inputs=inputs, build=build)


def _evaluation(
    inputs: Mapping[str, str], settings: Settings, unknown_distance: float | None, mar: Path | None = None
) -> Artefact:
    """The evaluation of a network and an index from the store, or of those in the MAR that is served."""

    def build(folder: Path) -> dict[str, Any]:
        from steps.analyse.evaluate import evaluate

        split = read_split(inputs["test"])
        if mar is None:
            stored = _stored(inputs["network"], inputs["index"])
            return evaluate(split, *stored, folder, unknown_distance=unknown_distance, **settings)
        with tempfile.TemporaryDirectory() as unpacked:
            with _opened(mar) as archive:
                archive.extractall(unpacked)
            model = Path(unpacked)
            return evaluate(split, model, model, folder, unknown_distance=unknown_distance, **settings)

    recipe = {"golden": settings["golden"], "mistakes": settings["mistakes"], "unknown_distance": unknown_distance}
    return produce(model_volume(), "evaluation", STEP, parameters=recipe, inputs=inputs, build=build)


def _evaluation_of_served(champion: Record, test: str, settings: Settings) -> Artefact:
    mar = deploy_volume() / MODEL_STORE / champion.mar
    with _opened(mar) as archive:
        # An archive from before there was a distance says nothing of it, nor calls anything unknown.
        model = json.loads(archive.read("model.json")) if "model.json" in archive.namelist() else {}
    inputs = {"test": test, "network": champion.network, "index": champion.index}
    return _evaluation(inputs, settings, model.get("unknown_distance"), mar)


def _stored(network: str, index: str) -> tuple[Path, Path]:
    return read(model_volume(), "network", network).path, read(model_volume(), "index", index).path


@contextmanager
def _opened(mar: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(mar) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile) as error:
        raise StepError(
            f"the model now served, {mar}, cannot be read ({error}), so nobody can say whether the new one is better: "
            f"restore it from backup/, or remove {pointer_path(deploy_volume())} to deploy against the baseline alone"
        ) from error


def _score(evaluation: Artefact) -> Score:
    return Score(evaluation.facts["accuracy"], evaluation.facts["per_class"])


def _write(
    verdict: Verdict,
    evaluation: Artefact,
    champion: Record | None,
    ids: Mapping[str, str],
    folder: Path,
) -> dict[str, Any]:
    from steps.analyse.report_page import render

    champion_version = champion.version if champion else None
    (folder / "verdict.json").write_text(
        json.dumps({**asdict(verdict), "champion": champion_version, **ids, "evaluation": evaluation.id}, indent=2)
        + "\n"
    )
    (folder / "report.html").write_text(render(verdict, evaluation, champion_version, ids))
    return {"better": verdict.better, "reason": verdict.reason, **ids, "evaluation": evaluation.id}
