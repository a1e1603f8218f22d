"""Validate data: reads the four splits, writes `<data volume>/validation/<id>/report.json` or fails saying why."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.dataset import read_split
from steps.common.errors import StepError
from steps.common.parameters import typed
from steps.common.store import produce
from steps.common.volumes import data_volume
from steps.validate import rules

STEP = "validate"


@typed
def validate(
    splits: Mapping[str, str],
    *,
    image_size: int,
    channels: int,
    min_images_per_class: int,
    max_class_ratio: float,
    max_duplicate_fraction: float,
) -> str:
    """The id of the report on the splits, `train`, `validation`, `gallery` and `test`, of these ids.

    Raises StepError naming split, rule, value and file of every rule that is broken.
    """

    def build(folder: Path) -> dict[str, Any]:
        data = {name: read_split(id) for name, id in splits.items()}
        broken = [
            *rules.check_shapes(data, image_size, channels),
            *rules.check_labels(data, min_images_per_class, max_class_ratio),
        ]
        # What follows reads pixels and labels, and needs them to be what they should be.
        broken = broken or [*rules.check_content(data, max_duplicate_fraction), *rules.check_classes(data)]
        if broken:
            raise StepError("the data is not fit to train on:\n" + "\n".join(f"  {line}" for line in broken))
        report = {name: rules.summary(split) for name, split in data.items()}
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        return {"images": sum(len(split) for split in data.values()), "classes": len(data["gallery"].classes)}

    with progress.running(STEP):
        report = produce(
            data_volume(),
            "validation",
            STEP,
            parameters={
                "image_size": image_size,
                "channels": channels,
                "min_images_per_class": min_images_per_class,
                "max_class_ratio": max_class_ratio,
                "max_duplicate_fraction": max_duplicate_fraction,
            },
            inputs=splits,
            build=build,
        )
        facts = report.facts
        progress.finished(
            STEP, made=f"{facts['images']} images of {facts['classes']} classes are sound", unchanged=report.unchanged
        )
        return report.id
