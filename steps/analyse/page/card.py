"""The model card: what is known of a model, and what a person has to fill in; reads and writes nothing.

The headings are those of Mitchell et al., "Model Cards for Model Reporting" (2019).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steps.analyse.judge import Verdict


@dataclass(frozen=True)
class Entry:
    """One heading of the card: what is known from the run, and what is asked of a person."""

    title: str
    known: str
    asked: str


def card(verdict: Verdict, ids: Mapping[str, str], data: Mapping[str, Any], unknown: str, created: str) -> list[Entry]:
    """The model card.

    Args:
        verdict: The verdict on the model.
        ids: The ids of the test split, the network and the index.
        data: What `steps/analyse/page/data.py` says of its splits.
        unknown: What is to be said of images called unknown.
        created: When the network was made.

    Returns:
        Its entries.
    """
    counts = data["total"]
    worst = ""
    if verdict.worst_label is not None:
        worst = f" The worst class is {verdict.worst_label!r}, with {verdict.worst_accuracy:.2%}."
    broken = ", ".join(rule.name for rule in verdict.rules if not rule.passed)
    untested = f" {len(verdict.untested)} classes have too few test images." if verdict.untested else ""
    return [
        Entry(
            "Model details",
            f"Network {ids['network']}, of {created[:10]}, and index {ids['index']}: an embedding by ArcFace, and the "
            f"nearest image of a gallery. It knows {data['known']} classes.",
            "Who made it, its licence, and where questions go.",
        ),
        Entry("Intended use", "", "For what, by whom, and for what it is not meant."),
        Entry("Factors", "", "Groups, devices and conditions by which its accuracy may differ."),
        Entry(
            "Metrics",
            f"Accuracy {verdict.accuracy:.2%}, with 95 % confidence {verdict.interval.low:.2%} to "
            f"{verdict.interval.high:.2%}.{worst} Rules broken: {broken or 'none'}.",
            "Why these are the right ones, and what a wrong answer costs.",
        ),
        Entry(
            "Evaluation data",
            f"{counts['test']} images that the network did not learn from, split {ids['test']}.",
            "Whether they are like the images that will be sent.",
        ),
        Entry(
            "Training data",
            f"{counts['train']} images to learn from, {counts['validation']} to choose by, and {counts['gallery']} in "
            "the gallery.",
            "Where they come from, who labelled them, under which licence, and whether people are in them.",
        ),
        Entry("Ethical considerations", "", "Whom an answer may harm, and what was done about it."),
        Entry(
            "Caveats and recommendations",
            f"Images called unknown: {unknown}.{untested}",
            "What else a user must know.",
        ),
    ]
