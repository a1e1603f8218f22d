"""Train model: reads the splits `train` and `validation`, writes `<model volume>/network/<id>/`.

A killed run leaves `<model volume>/checkpoints/<id>.pt`; the next run resumes from it.
"""

import json
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.parameters import typed
from steps.common.store import artefact_id, produce
from steps.common.volumes import model_volume
from steps.train.parameters import Train

STEP = "train"


@typed
def train(train_split: str, validation_split: str, parameters: Train) -> str:
    """Train a network, on the GPUs if there are any.

    Args:
        train_split: The id of the split to train on.
        validation_split: The id of the split on which accuracy is measured after each epoch.
        parameters: The section `train` of `params.yaml`.

    Returns:
        The id of the network.

    Raises:
        StepError: Training diverges, or a batch is too small for the GPUs.
    """
    recipe = parameters.deciding()
    inputs = {"train": train_split, "validation": validation_split}
    checkpoint = model_volume() / "checkpoints" / f"{artefact_id(STEP, recipe, inputs)}.pt"

    def build(folder: Path) -> dict[str, Any]:
        import torch

        from steps.common.images.dataset import read_split
        from steps.train.fit import Job, launch
        from steps.train.machine import described

        data = read_split(train_split).path, read_split(validation_split).path
        job = Job(parameters, *data, folder, checkpoint)
        launch(job, processes=max(torch.cuda.device_count(), 1))
        history = json.loads((folder / "history.json").read_text())
        return {**history[-1], "seed": parameters.seed, **described()}

    with progress.running(STEP):
        network = produce(model_volume(), "network", STEP, parameters=recipe, inputs=inputs, build=build)
        checkpoint.unlink(missing_ok=True)
        facts = network.facts
        made = f"{parameters.epochs} epochs, {facts['validation_accuracy']:.2%} on validation"
        progress.finished(STEP, made=made, unchanged=network.unchanged, id=network.id)
        return network.id
