"""Validate data: reads the four splits, writes `<data volume>/validation/<id>/report.json` or fails saying why."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.events import Warned, emit
from steps.common import progress
from steps.common.errors import StepError
from steps.common.images.format import format_of
from steps.common.parameters import WantedFormat, typed
from steps.common.store import produce
from steps.common.volumes import data_volume
from steps.validate import changes
from steps.validate.parameters import Validate

STEP = "validate"


@typed
def validate(
    splits: Mapping[str, str],
    images: WantedFormat,
    parameters: Validate,
    *,
    source: str,
    factory: str,
    embedding_size: int,
    allow_lost_classes: Sequence[str],
) -> str:
    """Check the splits against every rule in `steps/validate/rules.py`.

    Args:
        splits: The ids of the splits `train`, `validation`, `gallery` and `test`, by these names.
        images: The format that their images must have; where it is `auto`, that of the split `train`.
        parameters: The section `validate` of `params.yaml`.
        source: Where the images come from: counts are compared with the last ones of the same source.
        factory: FAISS's factory string of the index that is to be made of the gallery.
        embedding_size: Numbers in an embedding.
        allow_lost_classes: Classes that may vanish or shrink.

    Returns:
        The id of the report.

    Raises:
        StepError: A rule is broken; the message names split, rule, value and file for each. Or a class vanished or
            shrank since the last sound data. Or FAISS cannot make such an index, or not with cosines.
    """

    def build(folder: Path) -> dict[str, Any]:
        from steps.common.images.dataset import read_split
        from steps.validate import rules

        data = {name: read_split(id) for name, id in splits.items()}
        broken = [
            *rules.check_shapes(data, wanted.image_size, wanted.channels),
            *rules.check_labels(data, parameters.min_images_per_class, parameters.max_class_ratio),
        ]
        if not broken:  # the other rules read pixels and labels of the right shape
            broken = [*rules.check_content(data, parameters.max_duplicate_fraction), *rules.check_classes(data)]
        if broken:
            raise StepError("the data is not fit to train on:\n" + "\n".join(f"  {line}" for line in broken))
        from steps.common.models.auto_index import meant
        from steps.common.models.faiss_index import check_factory

        count = len(data["gallery"])
        check_factory(meant(factory, count, embedding_size), count, embedding_size)
        report = {name: rules.summary(split) for name, split in data.items()}
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        facts = {"images": sum(len(split) for split in data.values()), "classes": len(data["gallery"].classes)}
        return {**facts, "per_class": rules.per_class(data)}

    with progress.running(STEP):
        wanted = images.completed(format_of(splits["train"]))
        report = produce(
            data_volume(),
            "validation",
            STEP,
            parameters={
                **wanted.deciding(),
                **parameters.deciding(),
                "factory": factory,
                "embedding_size": embedding_size,
            },
            inputs=splits,
            build=build,
        )
        facts = report.facts
        _check_changes(changes.Counts(source, facts["per_class"]), parameters.max_shrink, allow_lost_classes)
        progress.finished(
            STEP, made=f"{facts['images']} images of {facts['classes']} classes are sound", unchanged=report.unchanged
        )
        return report.id


def _check_changes(now: changes.Counts, max_shrink: float, allowed: Sequence[str]) -> None:
    """Show what the last data had and these have not, and refuse it if it is a class, or most of one."""
    before = changes.last()
    if before and before.source == now.source:
        if fewer := changes.table(before.classes, now.classes):
            emit(Warned("fewer images than in the last run:\n  " + "\n  ".join(fewer), STEP))
        if broken := changes.check(before.classes, now.classes, max_shrink, allowed):
            raise StepError(
                "\n  ".join(["the data lost what the last run had:", *broken])
                + "\n  put the images back, or name the class in gate.allow_lost_classes"
            )
    changes.keep(now)
