"""Validate data: reads the four splits, writes `<data volume>/validation/<id>/report.json` or fails saying why."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.dataset import read_split
from steps.common.errors import StepError
from steps.common.parameters import ImageFormat, typed
from steps.common.store import produce
from steps.common.volumes import data_volume
from steps.validate import rules
from steps.validate.parameters import Validate

STEP = "validate"


@typed
def validate(splits: Mapping[str, str], images: ImageFormat, parameters: Validate) -> str:
    """Check the splits against every rule in `steps/validate/rules.py`.

    Args:
        splits: The ids of the splits `train`, `validation`, `gallery` and `test`, by these names.
        images: The format that their images must have.
        parameters: The section `validate` of `params.yaml`.

    Returns:
        The id of the report.

    Raises:
        StepError: A rule is broken; the message names split, rule, value and file for each.
    """

    def build(folder: Path) -> dict[str, Any]:
        data = {name: read_split(id) for name, id in splits.items()}
        broken = [
            *rules.check_shapes(data, images.image_size, images.channels),
            *rules.check_labels(data, parameters.min_images_per_class, parameters.max_class_ratio),
        ]
        if not broken:  # the other rules read pixels and labels of the right shape
            broken = [*rules.check_content(data, parameters.max_duplicate_fraction), *rules.check_classes(data)]
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
            parameters={**images.image_format(), **parameters.deciding()},
            inputs=splits,
            build=build,
        )
        facts = report.facts
        progress.finished(
            STEP, made=f"{facts['images']} images of {facts['classes']} classes are sound", unchanged=report.unchanged
        )
        return report.id
