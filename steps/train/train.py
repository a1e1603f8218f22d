"""Train model: reads the training and validation splits and pretrained weights, writes `<model volume>/network/<id>/`.

A killed run leaves `<model volume>/checkpoints/<id>.pt`; the next run resumes from it.
"""

import json
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.models.pretrained import FILE, KIND
from steps.common.parameters import SMALL, typed
from steps.common.store import artefact_id, produce, read
from steps.common.volumes import data_volume, model_volume
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
    recipe = parameters.deciding()
    inputs = {"train": train_split, "validation": validation_split, **({} if is_small else {"weights": weights})}
    checkpoint = model_volume() / "checkpoints" / f"{artefact_id(STEP, recipe, inputs)}.pt"

    def build(folder: Path) -> dict[str, Any]:
        import torch

        from steps.common.images.dataset import read_split
        from steps.common.models.embedding import load_network
        from steps.train.fit import Job, launch
        from steps.train.machine import described

        data = read_split(train_split).path, read_split(validation_split).path
        pretrained = None if is_small else read(data_volume(), KIND, weights).path / FILE
        job = Job(parameters, *data, folder, checkpoint, pretrained)
        launch(job, processes=max(torch.cuda.device_count(), 1))
        history = json.loads((folder / "history.json").read_text())
        return {**history[-1], "seed": parameters.seed, **described(load_network(folder))}

    with progress.running(STEP):
        network = produce(model_volume(), "network", STEP, parameters=recipe, inputs=inputs, build=build)
        checkpoint.unlink(missing_ok=True)
        facts = network.facts
        network_of = "" if is_small else f"{parameters.backbone}, "
        made = f"{network_of}{parameters.epochs} epochs, {facts['validation_accuracy']:.2%} on validation"
        progress.finished(STEP, made=made, unchanged=network.unchanged, id=network.id)
        return network.id
