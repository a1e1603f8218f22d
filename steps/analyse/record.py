"""Brings the evaluations of two models before the judge: writes `verdict.json`, and the report as HTML and Markdown."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from steps.analyse.advice.findings import FILE as ADVICE
from steps.analyse.advice.splits import split_ids
from steps.analyse.answers import UNKNOWN, read_answers, true_labels
from steps.analyse.champion import Served
from steps.analyse.judge import Answers, Champion, judge
from steps.analyse.page.change import Change, change, sentence
from steps.analyse.page.page import GATHERED, Case, render
from steps.analyse.parameters import Gate
from steps.common.images.dataset import Split, read_split
from steps.common.models.seen import Seen, fair, fresh, seen_by
from steps.common.store import Artefact


def write(
    folder: Path,
    gate: Gate,
    ids: Mapping[str, str],
    evaluation: Artefact,
    champion: Served | None,
    of_champion: Artefact | None,
    rolled_back: str | None,
    unknown: str,
    lacking: str,
) -> dict[str, Any]:
    """Judge a model, and write the verdict.

    Args:
        folder: Where it is written.
        gate: The limits.
        ids: The ids of the test split, the network and the index.
        evaluation: The model's evaluation.
        champion: The model now served, if any.
        of_champion: Its evaluation; the model's own if that is served already.
        rolled_back: Why the model was taken out of service, if it was.
        unknown: What is to be said of images called unknown.
        lacking: What the network lacks, in words.

    Returns:
        `better` and `reason`, and what the verdict is on.
    """
    split, own = read_split(ids["test"]), seen_by(ids["network"], ids["index"])
    is_champion = of_champion is not None and of_champion.id == evaluation.id
    other = None
    if champion and of_champion and not is_champion:
        other = _champion(split, champion, of_champion, own)
    answers = _answers(split, evaluation)
    verdict = judge(answers, other, gate, is_champion=is_champion, rolled_back=rolled_back)
    version = champion.version if champion else None
    changed = _changed(ids, champion, other, own, answers, is_champion=is_champion)
    advice = json.loads((evaluation.path / ADVICE).read_text())
    images = json.loads((evaluation.path / GATHERED).read_text())["data"]["total"]
    said = {"unknown": unknown, "lacking": lacking}
    content = {**asdict(verdict), **said, "champion": version, **ids, "evaluation": evaluation.id}
    content["data"] = sentence(images, changed)
    content["advice"] = [finding["text"] for finding in advice if finding["helps"]]
    (folder / "verdict.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    page, short = render(Case(verdict, evaluation, version, changed, ids, said))
    (folder / "report.html").write_text(page)
    (folder / "report.md").write_text(short)
    return {"better": verdict.better, "reason": verdict.reason, **ids, "evaluation": evaluation.id}


def _changed(
    ids: Mapping[str, str],
    champion: Served | None,
    other: Champion | None,
    own: Seen | None,
    answers: Answers,
    *,
    is_champion: bool,
) -> Change | str:
    """What differs from the served model's data; in words, why that is not known."""
    if is_champion:
        return "This network and index are those served already"
    if champion is None or other is None:
        return "Nothing was served when this model was judged"
    if champion.seen is None or own is None:
        return f"Version {champion.version} does not say which images it has had"
    made_of = split_ids(ids["test"], ids["network"], ids["index"])
    splits = {name: read_split(id) for name, id in made_of.items()}
    return change(splits, champion.version, own, champion.seen, [*(other.classes - answers.classes)])


def _answers(split: Split, evaluation: Artefact) -> Answers:
    labels, classes, _ = read_answers(evaluation.path, len(split))
    true = true_labels(split)
    return Answers(true, labels == np.array(true, object), labels == UNKNOWN, classes)


def _champion(split: Split, champion: Served, evaluation: Artefact, own: Seen | None) -> Champion:
    labels, classes, asked = read_answers(evaluation.path, len(split))
    right = labels == np.array(true_labels(split), object)
    gone = int((~asked).sum())
    if champion.seen is None or own is None:
        return Champion(champion.version, right, np.zeros(len(split), bool), classes, None, gone)
    fair_to_both = asked & fair(split.rows, champion.seen, own)
    return Champion(champion.version, right, fair_to_both, classes, fresh(own, champion.seen), gone)
