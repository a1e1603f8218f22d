"""Analysis: judges network and index by their answers to the test split, beside those of the model now served.

Writes `<model volume>/evaluation/<id>/` for each of the two, and `<model volume>/verdict/<id>/` with `verdict.json` and
the report: `report.html`, and a short one with the model card, `report.md`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.events import Verdict, Warned, emit
from steps.analyse.champion import Served
from steps.analyse.parameters import Analyse, Gate
from steps.common import progress
from steps.common.digest import digest
from steps.common.models.contents import LIMITS, stored_contents
from steps.common.parameters import Batches, Neighbours, typed
from steps.common.pointer import read_pointer
from steps.common.store import Artefact, produce, read
from steps.common.volumes import data_volume, model_volume

STEP = "analyse"
_QUANTILE = "unknown_quantile"  # decides the calibration; the other parameters decide the evaluation


@dataclass(frozen=True)
class Analysis:
    """What the pipeline shows: the verdict and its id, the confusion matrix as far as it can be read, and the report.

    `classes` are the labels of the matrix, and `confused` the most confused pairs: true label, answer and images.
    `advice` is what would help, in sentences, and `data` the images that all comes from, in one. `report` is the HTML's
    file, `short` that of the Markdown.
    """

    verdict: Verdict
    id: str
    classes: list[str]
    confusion: list[list[int]]
    confused: list[list[Any]]
    advice: list[str]
    data: str
    report: Path
    short: Path


@typed
def analyse(
    test: str,
    network: str,
    index: str,
    validation: str,
    *,
    gate: Gate,
    batches: Batches,
    search: Neighbours,
    parameters: Analyse,
    lacking: str = "",
) -> Analysis:
    """Judge a network and its index by what the server would answer, and compare them with the model now served.

    The validation split gives the distances above which the server calls an image unknown.

    Args:
        test: The id of the test split.
        network: The id of the network.
        index: The id of the index.
        validation: The id of the validation split.
        gate: The section `gate` of `params.yaml`.
        batches: How images are embedded.
        search: How the server searches.
        parameters: The section `analyse` of `params.yaml`.
        lacking: What the network lacks, in words, if it lacks something.

    Returns:
        The verdict, and what the pipeline shows of the evaluation.

    Raises:
        StepError: The model now served cannot be scored, so that nobody can say which is better.
    """
    with progress.running(STEP):
        inputs = {"test": test, "network": network, "index": index}
        calibration = _calibration(validation, network, index, batches, search, parameters)
        limits = {name: calibration.facts[name] for name in LIMITS}
        if limits["unknown_distance"] is None:
            emit(Warned(_nothing_unknown(calibration, parameters), STEP))
        evaluation = _evaluation(inputs, batches, search, parameters, limits)
        pointer, champion, of_champion = read_pointer(), None, None
        if pointer:
            champion = Served(pointer.version, pointer.network, pointer.index, pointer.mar)
            same = champion.is_made_of(network, index)
            of_champion = evaluation if same else _evaluation_of_served(champion, test, batches)
        taken_out = pointer.why_out_of_service(network, index) if pointer else None
        unknown = _unknown(evaluation, calibration, parameters)

        def build(folder: Path) -> dict[str, Any]:
            from steps.analyse.record import write

            return write(folder, gate, inputs, evaluation, champion, of_champion, taken_out, unknown, lacking)

        made = produce(
            model_volume(),
            "verdict",
            STEP,
            parameters={**gate.deciding(), "rolled_back": taken_out, "unknown": unknown, "lacking": lacking},
            inputs={"evaluation": evaluation.id, "champion": of_champion.id if of_champion else None},
            build=build,
        )
        content = json.loads((made.path / "verdict.json").read_text())
        verdict = _said(content)
        details = json.loads((evaluation.path / "evaluation.json").read_text())
        shown = {name: details[name] for name in ("classes", "confusion", "confused")}
        shown |= {"advice": content["advice"], "data": content["data"]}
        worst = f"worst class {verdict.worst_label} {verdict.worst_accuracy:.2%}"
        progress.finished(
            STEP,
            made=f"accuracy {verdict.accuracy:.2%}, {worst if verdict.worst_label else 'no class is tested'}",
            # Against a new champion only the verdict is new; no image is scored twice.
            unchanged=evaluation.unchanged and (of_champion is None or of_champion.unchanged),
            id=made.id,
            verdict=verdict,
            **shown,
            report=str(made.path / "report.html"),
        )
        return Analysis(verdict, made.id, **shown, report=made.path / "report.html", short=made.path / "report.md")


def _calibration(
    validation: str, network: str, index: str, batches: Batches, search: Neighbours, parameters: Analyse
) -> Artefact:
    """The distances above which an image is unknown, of a network and an index in the store."""
    decides = parameters.model_dump(include={_QUANTILE}) | search.deciding() | _contents(network, index)

    def build(_: Path) -> dict[str, Any]:
        from steps.analyse.calibrate import calibrate
        from steps.common.images.dataset import KIND, open_split, read_split

        made_of = read(model_volume(), "index", index).manifest["inputs"]["embeddings"]
        gallery = read(model_volume(), "embeddings", made_of).manifest["inputs"]["gallery"]
        return calibrate(
            read_split(validation),
            open_split(data_volume() / KIND / gallery).rows,
            *_stored(network, index),
            batch_size=batches.batch_size,
            neighbours=search.neighbours,
            unknown_quantile=parameters.unknown_quantile,
        )

    inputs = {"validation": validation, "network": network, "index": index}
    return produce(model_volume(), "calibration", STEP, parameters=decides, inputs=inputs, build=build)


def _nothing_unknown(calibration: Artefact, parameters: Analyse) -> str:
    from steps.analyse.calibrate import images_needed

    facts, needed = calibration.facts, images_needed(parameters.unknown_quantile)
    if facts["images"] >= needed:
        return "no image is called unknown: the index finds no neighbour of too many validation images"
    copies = f" ({facts['copies']} more are copies of the gallery's)" if facts["copies"] else ""
    return (
        f"no image is called unknown: that is learned from validation images, of which there are {facts['images']}"
        f"{copies}, and analyse.unknown_quantile {parameters.unknown_quantile} needs {needed}"
    )


def _unknown(evaluation: Artefact, calibration: Artefact, parameters: Analyse) -> str:
    facts = evaluation.facts
    if facts["unknown_distance"] is None:
        return _nothing_unknown(calibration, parameters)
    distance, by_features = (facts[name] for name in LIMITS)
    beyond = f"further than {distance:.3f} from the gallery, or than {by_features:.3f} by features"
    return f"{beyond}: {facts['unknown'] or 0:.2%} of test"


def _evaluation(
    inputs: Mapping[str, str],
    batches: Batches,
    search: Neighbours,
    parameters: Analyse,
    limits: Mapping[str, float | None],
) -> Artefact:
    """The evaluation of a network and an index in the store."""
    decides = {key: value for key, value in parameters.deciding().items() if key != _QUANTILE}

    def build(folder: Path) -> dict[str, Any]:
        from steps.analyse.advice.advise import advise
        from steps.analyse.answers import Limits
        from steps.analyse.evaluate import evaluate
        from steps.analyse.page.gather import gather
        from steps.common.images.dataset import read_split

        score = evaluate(
            read_split(inputs["test"]),
            *_stored(inputs["network"], inputs["index"]),
            folder,
            limits=Limits(**limits),
            batch_size=batches.batch_size,
            neighbours=search.neighbours,
            golden=parameters.golden,
            mistakes=parameters.mistakes,
        )
        made_of = inputs["test"], inputs["network"], inputs["index"]
        advise(folder, *made_of, batches.batch_size)
        gather(folder, *made_of, limits["unknown_distance"])
        return score

    decides |= {**search.deciding(), **_contents(inputs["network"], inputs["index"])}
    decides |= limits
    return produce(model_volume(), "evaluation", STEP, parameters=decides, inputs=inputs, build=build)


def _evaluation_of_served(champion: Served, test: str, batches: Batches) -> Artefact:
    """The answers of the model now served to the same images; of another archive, they are another artefact."""
    inputs = {"test": test, "network": champion.network, "index": champion.index}
    had = champion.seen.digest() if champion.seen else None
    decides = {"archive": digest([champion.contents, champion.settings, had])}

    def build(folder: Path) -> dict[str, Any]:
        from steps.common.images.dataset import read_split

        return champion.answer(read_split(test), folder, batches.batch_size)

    return produce(model_volume(), "evaluation", STEP, parameters=decides, inputs=inputs, build=build)


def _contents(network: str, index: str) -> dict[str, str]:
    """The same ids can have other contents, where a network was made anew on another processor."""
    return {"contents": digest(stored_contents(network, index))}


def _stored(network: str, index: str) -> tuple[Path, Path]:
    return read(model_volume(), "network", network).path, read(model_volume(), "index", index).path


def _said(verdict: Mapping[str, Any]) -> Verdict:
    """The event, from `verdict.json`."""
    return Verdict(
        accuracy=verdict["accuracy"],
        worst_label=verdict["worst_label"],
        worst_accuracy=verdict["worst_accuracy"],
        better=verdict["better"],
        reason=verdict["reason"],
        interval=[verdict["interval"]["low"], verdict["interval"]["high"]],
        rules={rule["name"]: rule["passed"] for rule in verdict["rules"]},
        unknown=verdict["unknown"],
        lacking=verdict["lacking"],
    )
