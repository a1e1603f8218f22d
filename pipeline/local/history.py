"""The runs that a folder of volumes remembers: reads verdicts, what they rest on, and the journal; changes nothing.

A run is a verdict. One that found all as it was, or failed, has left none. Nothing is stamped as used, so what is only
looked at is not kept from `make gc`.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import InputError
from contract.journal import Event, read_journal
from contract.pointer import DAMAGE
from steps.analyse.answers import read_answers, true_labels
from steps.analyse.comparison import Comparison, compare
from steps.common.images.dataset import KIND as DATASET
from steps.common.images.dataset import open_split
from steps.common.store import Artefact, look
from steps.common.volumes import data_volume, deploy_volume, model_volume
from steps.deploy.release.status import status_of

_NO_SETTINGS = {"rolled_back", "unknown"}  # which decide a verdict as well
_STEPS = {"dataset": "preprocess", "network": "train", "embeddings": "embed", "index": "index", "verdict": "analyse"}
_SIGNIFICANCE = 0.05  # of the comparison, one-sided each way
_FEW = 6  # classes that came or went, by name
_SECTIONS = {"preprocess": "data", "train": "train", "index": "index", "analyse": "gate"}


@dataclass(frozen=True)
class Data:
    """A split: its id, the number of its images, and its classes."""

    id: str
    images: int
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run: when it was judged, how, and what it was made of.

    `version` is the version that it deployed, None if it deployed none, and `served` whether that is the current one.
    `code` and `libraries` are digests and versions by step, `parameters` values by `<section>.<name>`, and `data` the
    splits by name. What `make gc` has deleted is missing in them.
    """

    id: str
    at: str
    better: bool
    reason: str
    accuracy: float
    interval: tuple[float, float] | None
    worst: str
    unknown: str
    test: str
    evaluation: str
    version: str | None = None
    served: bool = False
    code: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Data] = field(default_factory=dict)
    per_class: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """How it ended: one word as in the last line of `make run`, or that it was never deployed."""
        if self.version:
            return "DEPLOYED"
        return "not deployed" if self.better else "REJECTED"


def runs(volumes: Path) -> list[Run]:
    """The runs on these volumes, the oldest first.

    Args:
        volumes: The folder of the volumes.

    Returns:
        One for each verdict, but for those on the model that was served already, under the same rules.

    Raises:
        InputError: The journal is of a later version of this project.
    """
    os.environ["VOLUMES"] = str(volumes.absolute())
    deployed, current = _deployed()
    shelf = model_volume() / "verdict"
    verdicts = [verdict for path in sorted(shelf.glob("[!.]*")) if (verdict := look(path))]
    found: list[Run] = []
    judged: set[str] = set()
    for verdict in sorted(verdicts, key=lambda verdict: str(verdict.manifest["created"])):
        inputs = verdict.manifest["inputs"]
        rules = json.dumps([inputs["evaluation"], verdict.manifest["code"], verdict.manifest["parameters"]])
        if inputs["champion"] == inputs["evaluation"] and rules in judged:
            continue
        judged.add(rules)
        version = deployed.get(verdict.id)
        try:
            found.append(_run(verdict, version, served=version is not None and version == current))
        except (OSError, *DAMAGE):
            continue  # of an earlier version of this project, or deleted meanwhile
    return found


def find_run(found: Sequence[Run], name: str) -> Run:
    """The run with this id or version, or the one that begins so.

    Args:
        found: The runs.
        name: An id of a run or a version, or its first characters.

    Returns:
        The run, the last one of several that deployed this version.

    Raises:
        InputError: There is none, or there are several.
    """
    exact = [run for run in found if name in (run.id, run.version)]
    fitting = exact or [run for run in found if any(id and id.startswith(name) for id in (run.id, run.version))]
    if not fitting:
        raise InputError(f"there is no run {name!r} on these volumes: make runs lists them")
    if len({run.id for run in fitting}) > 1 and not exact:
        raise InputError(f"{name!r} begins several runs: give more of one of {', '.join(run.id for run in fitting)}")
    return fitting[-1]


def changes(before: Run | None, now: Run) -> list[str]:
    """What is different in `now`: code, libraries, parameters and data, each in words."""
    if before is None:
        return ["the first run"]
    found = []
    if steps := [step for step, code in now.code.items() if before.code.get(step, code) != code]:
        found.append(f"code of {', '.join(steps)}")
    for left, right in ((before.libraries, now.libraries), (before.parameters, now.parameters)):
        for name in sorted(left.keys() | right.keys()):
            if name in left and name in right and left[name] != right[name]:
                found.append(f"{name} {said(left[name])} → {said(right[name])}")
    found += _changed_data(before.data, now.data)
    return found or ["the champion"]


def said(value: Any) -> str:
    """A value as in params.yaml."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def image_by_image(left: Run, right: Run) -> Comparison | None:
    """Compare the answers to the test split that both were tried on; None if there is none, or `gc` deleted them."""
    split = look(data_volume() / DATASET / right.test)
    if left.test != right.test or split is None:
        return None
    try:
        true = np.array(true_labels(open_split(split.path)), object)
        rights = [
            read_answers(model_volume() / "evaluation" / run.evaluation, len(true))[0] == true for run in (right, left)
        ]
    except (OSError, *DAMAGE):
        return None
    return compare(rights[0], rights[1], significance=_SIGNIFICANCE)


def _deployed() -> tuple[dict[str, str], str | None]:
    """The version that each verdict deployed, by the verdicts' ids, and the current version."""
    try:
        entries = read_journal(deploy_volume())
    except ValueError as error:
        raise InputError(str(error)) from error
    status = status_of(entries)
    reached = {change.version for change in status.history if change.event is Event.DEPLOYED}
    records = [entry.record for entry in entries if entry.event is Event.DEPLOYED and entry.record]
    return {one.verdict: one.version for one in records if one.verdict and one.version in reached}, status.version


def _run(verdict: Artefact, version: str | None, *, served: bool) -> Run:
    content = json.loads((verdict.path / "verdict.json").read_text())
    made = {"verdict": verdict, **dict(_made_of(content))}
    evaluation = look(model_volume() / "evaluation" / content["evaluation"])
    interval, worst = content["interval"], content["worst_label"]
    return Run(
        id=verdict.id,
        at=verdict.manifest["created"],
        better=content["better"],
        reason=content["reason"],
        accuracy=content["accuracy"],
        interval=interval and (interval["low"], interval["high"]),
        worst="none tested" if worst is None else f"{worst}, {content['worst_accuracy']:.4f}",
        unknown=content["unknown"],
        test=content["test"],
        evaluation=content["evaluation"],
        version=version,
        served=served,
        code={_STEPS[kind]: one.manifest["code"] for kind, one in made.items()},
        libraries={name: text for one in made.values() for name, text in one.manifest["libraries"].items()},
        parameters={
            f"{_SECTIONS[_STEPS[kind]]}.{name}": value
            for kind, one in made.items()
            if _STEPS[kind] in _SECTIONS
            for name, value in one.manifest["parameters"].items()
            if name not in _NO_SETTINGS
        },
        data=_data(content["test"], made),
        per_class=json.loads((evaluation.path / "evaluation.json").read_text())["per_class"] if evaluation else {},
    )


def _made_of(content: Mapping[str, Any]) -> Iterator[tuple[str, Artefact]]:
    """What a model was made of, by kinds, as far as it is there; of the splits, the training split."""
    network = look(model_volume() / "network" / content["network"])
    index = look(model_volume() / "index" / content["index"])
    embeddings = look(model_volume() / "embeddings" / index.manifest["inputs"]["embeddings"]) if index else None
    train = look(data_volume() / DATASET / network.manifest["inputs"]["train"]) if network else None
    for kind, one in (("dataset", train), ("network", network), ("embeddings", embeddings), ("index", index)):
        if one:
            yield kind, one


def _data(test: str, made: Mapping[str, Artefact]) -> dict[str, Data]:
    ids = {"test": test}
    for kind in ("network", "embeddings"):
        ids |= made[kind].manifest["inputs"] if kind in made else {}
    found = {}
    for split in ("train", "validation", "gallery", "test"):
        one = look(data_volume() / DATASET / ids[split]) if ids.get(split) else None
        if one:
            classes = json.loads((one.path / "classes.json").read_text())
            found[split] = Data(one.id, one.facts["images"], tuple(classes))
    return found


def _changed_data(left: Mapping[str, Data], right: Mapping[str, Data]) -> Iterator[str]:
    said_of: set[tuple[str, str]] = set()  # the gallery is the training split, unless the source has one
    for split in ("train", "validation", "gallery", "test"):
        if split not in left or split not in right:
            continue
        before, now = left[split], right[split]
        if before.id == now.id or (before.id, now.id) in said_of:
            continue
        said_of.add((before.id, now.id))
        words = (
            f"{before.images} → {now.images} images" if before.images != now.images else f"{now.images} other images"
        )
        signs = (("+", set(now.classes) - set(before.classes)), ("-", set(before.classes) - set(now.classes)))
        names = [f"{sign}{name}" for sign, those in signs for name in sorted(those)]
        more = f", classes {' '.join(names[:_FEW])}{' …' if len(names) > _FEW else ''}" if names else ""
        yield f"{split}: {words}{more}"
