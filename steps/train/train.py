"""Train model: reads the training and validation splits and pretrained weights, writes `<model volume>/network/<id>/`.

A killed run leaves `<model volume>/checkpoints/<id>.pt`; the next run resumes from it.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.images.format import format_of, images_of
from steps.common.models.pretrained import FILE, KIND
from steps.common.parameters import SMALL, typed
from steps.common.store import Artefact, artefact_id, produce, read
from steps.common.volumes import data_volume, model_volume
from steps.train.auto import Chosen, numbers
from steps.train.parameters import Train

STEP = "train"


@typed
def train(train_split: str, validation_split: str, parameters: Train, weights: str = "") -> str:
    """Train a network, on the GPUs if there are any.

    Args:
        train_split: The id of the split to train on.
        validation_split: The id of the split on which accuracy is measured after each epoch.
        parameters: The section `train` of `params.yaml`.
        weights: The id of the backbone's pretrained weights; empty for `small`, which has none.

    Returns:
        The id of the network.

    Raises:
        StepError: Training diverges, or a batch is too small for the GPUs; or the weights are not the backbone's.
    """
    parameters = parameters.resolved(weights)
    is_small = parameters.backbone == SMALL
    inputs = {"train": train_split, "validation": validation_split, **({} if is_small else {"weights": weights})}
    with progress.running(STEP):
        network = _network(parameters, inputs)
        choice = Chosen(**{name: network.facts[name] for name in Chosen.__dataclass_fields__})
        what = choice if is_small else f"{parameters.backbone}, {choice}"
        made = f"{what}, {network.facts['validation_accuracy']:.2%} on validation"
        progress.finished(STEP, made=made, unchanged=network.unchanged, id=network.id)
        return network.id


def _network(parameters: Train, inputs: dict[str, str]) -> Artefact:
    image_format = format_of(inputs["train"])
    known = numbers(parameters, images_of(inputs["train"]), image_format)
    recipe = parameters.model_copy(update=known.deciding()).deciding()
    checkpoint = model_volume() / "checkpoints" / f"{artefact_id(STEP, recipe, inputs)}.pt"

    def build(folder: Path) -> dict[str, Any]:
        import torch

        from steps.common.images.dataset import read_split
        from steps.common.models.embedding import load_network
        from steps.train.auto import chosen
        from steps.train.fit import Job, launch
        from steps.train.machine import described

        images, held_out = (read_split(inputs[name]) for name in ("train", "validation"))
        pretrained = read(data_volume(), KIND, inputs["weights"]).path / FILE if "weights" in inputs else None
        choice = chosen(parameters, known, images, held_out)
        launch(
            Job(parameters, choice, images.path, held_out.path, folder, checkpoint, pretrained),
            processes=max(torch.cuda.device_count(), 1),
        )
        history = json.loads((folder / "history.json").read_text())
        facts = {**history[-1], "seed": parameters.seed, **described(load_network(folder))}
        return {**facts, **asdict(choice), **image_format.deciding()}

    made = produce(model_volume(), "network", STEP, parameters=recipe, inputs=inputs, build=build)
    checkpoint.unlink(missing_ok=True)
    return made
