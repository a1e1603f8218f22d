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
from typing import Any

from contract.events import Verdict
from contract.pointer import MODEL_STORE, Record, pointer_path
from steps.analyse.parameters import Analyse, Gate
from steps.analyse.verdict import Score, judge
from steps.common import progress
from steps.common.dataset import read_split
from steps.common.errors import StepError
from steps.common.parameters import Batches, typed
from steps.common.pointer import read_pointer
from steps.common.store import Artefact, produce, read
from steps.common.volumes import deploy_volume, model_volume

STEP = "analyse"
_QUANTILE = "unknown_quantile"  # decides the calibration; the other parameters decide the evaluation


@dataclass(frozen=True)
class Analysis:
    """What the pipeline shows: the verdict and its id, the classes, the confusion matrix, and the report's path."""

    verdict: Verdict
    id: str
    classes: list[str]
    confusion: list[list[int]]
    report: Path


@typed
def analyse(
    test: str, network: str, index: str, validation: str, *, gate: Gate, batches: Batches, parameters: Analyse
) -> Analysis:
    """Score a network and its index on the test split, and compare them with the model now served.

    The verdict is about the label of the nearest neighbour. The validation split only gives the distance above which
    the server calls an image unknown.

    Args:
        test: The id of the test split.
        network: The id of the network.
        index: The id of the index.
        validation: The id of the validation split.
        gate: The section `gate` of `params.yaml`.
        batches: How images are embedded.
        parameters: The section `analyse` of `params.yaml`.

    Returns:
        The verdict, and what the pipeline shows of the evaluation.

    Raises:
        StepError: The model now served cannot be scored, so that nobody can say which is better.
    """
    with progress.running(STEP):
        inputs = {"test": test, "network": network, "index": index}
        calibration = _calibration(validation, network, index, batches, parameters)
        evaluation = _evaluation(inputs, batches, parameters, calibration.facts["unknown_distance"])
        champion, champion_evaluation = read_pointer(), None
        is_champion = champion is not None and (champion.network, champion.index) == (network, index)
        if champion:
            champion_evaluation = (
                evaluation if is_champion else _evaluation_of_served(champion, test, batches, parameters)
            )
        taken_out = champion.why_out_of_service(network, index) if champion else None
        verdict = judge(
            _score(evaluation),
            _score(champion_evaluation) if champion_evaluation else None,
            baseline=gate.baseline,
            worst_class_floor=gate.worst_class_floor,
            is_champion=is_champion,
            rolled_back=taken_out,
        )
        details = json.loads((evaluation.path / "evaluation.json").read_text())
        made = produce(
            model_volume(),
            "verdict",
            STEP,
            parameters={**gate.deciding(), "rolled_back": taken_out},
            inputs={"evaluation": evaluation.id, "champion": champion_evaluation.id if champion_evaluation else None},
            build=partial(_write, verdict, evaluation, champion, inputs),
        )
        progress.finished(
            STEP,
            made=f"accuracy {verdict.accuracy:.2%}, worst class {verdict.worst_label} {verdict.worst_accuracy:.2%}",
            # Against a new champion only the verdict is new; no image is scored twice.
            unchanged=evaluation.unchanged and (champion_evaluation is None or champion_evaluation.unchanged),
            id=made.id,
            verdict=verdict,
            classes=details["classes"],
            confusion=details["confusion"],
            report=str(made.path / "report.html"),
        )
        return Analysis(verdict, made.id, details["classes"], details["confusion"], made.path / "report.html")


def _calibration(validation: str, network: str, index: str, batches: Batches, parameters: Analyse) -> Artefact:
    """Return the distance above which an image is unknown, of a network and an index in the store."""
    decides = parameters.model_dump(include={_QUANTILE})

    def build(_: Path) -> dict[str, Any]:
        from steps.analyse.calibrate import calibrate

        split, stored = read_split(validation), _stored(network, index)
        quantile = parameters.unknown_quantile
        return calibrate(split, *stored, batch_size=batches.batch_size, unknown_quantile=quantile)

    inputs = {"validation": validation, "network": network, "index": index}
    return produce(model_volume(), "calibration", STEP, parameters=decides, inputs=inputs, build=build)


def _evaluation(
    inputs: Mapping[str, str],
    batches: Batches,
    parameters: Analyse,
    unknown_distance: float | None,
    mar: Path | None = None,
) -> Artefact:
    """Return the evaluation of a network and an index in the store, or of those in the MAR now served."""
    decides = {key: value for key, value in parameters.deciding().items() if key != _QUANTILE}
    decides |= {"unknown_distance": unknown_distance}

    def build(folder: Path) -> dict[str, Any]:
        from steps.analyse.evaluate import evaluate

        score = partial(
            evaluate,
            read_split(inputs["test"]),
            folder=folder,
            unknown_distance=unknown_distance,
            batch_size=batches.batch_size,
            golden=parameters.golden,
            mistakes=parameters.mistakes,
        )
        if mar is None:
            return score(*_stored(inputs["network"], inputs["index"]))
        with tempfile.TemporaryDirectory() as unpacked:
            with _opened(mar) as archive:
                archive.extractall(unpacked)
            model = Path(unpacked)
            return score(model, model)

    return produce(model_volume(), "evaluation", STEP, parameters=decides, inputs=inputs, build=build)


def _evaluation_of_served(champion: Record, test: str, batches: Batches, parameters: Analyse) -> Artefact:
    mar = deploy_volume() / MODEL_STORE / champion.mar
    with _opened(mar) as archive:
        # An older archive has no distance, and calls no image unknown.
        model = json.loads(archive.read("model.json")) if "model.json" in archive.namelist() else {}
    inputs = {"test": test, "network": champion.network, "index": champion.index}
    return _evaluation(inputs, batches, parameters, model.get("unknown_distance"), mar)


def _stored(network: str, index: str) -> tuple[Path, Path]:
    return read(model_volume(), "network", network).path, read(model_volume(), "index", index).path


@contextmanager
def _opened(mar: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(mar) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile) as error:
        raise StepError(
            f"the model now served, {mar}, cannot be read ({error}), so it cannot be compared with the new one: "
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
