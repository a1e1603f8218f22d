"""Train model: reads the splits `train` and `validation`, writes `<model volume>/network/<id>/`.

A killed run leaves `<model volume>/checkpoints/<id>.pt`, from which the next one goes on.
"""

import json
from pathlib import Path
from typing import Any

from steps.common import progress
from steps.common.dataset import read_split
from steps.common.parameters import typed
from steps.common.store import artefact_id, produce
from steps.common.volumes import model_volume

STEP = "train"


@typed
def train(
    train_split: str,
    validation_split: str,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup_fraction: float,
    widths: list[int],
    embedding_size: int,
    scale: float,
    margin: float,
    rotation: float,
    translation: float,
    zoom: float,
    shear: float,
    seed: int,
    in_memory_mb: int,
) -> str:
    """The id of the network trained on these splits; `in_memory_mb` alone does not change it.

    Raises StepError if training diverges.
    """
    recipe: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "warmup_fraction": warmup_fraction,
        "widths": widths,
        "embedding_size": embedding_size,
        "scale": scale,
        "margin": margin,
        "rotation": rotation,
        "translation": translation,
        "zoom": zoom,
        "shear": shear,
        "seed": seed,
    }
    inputs = {"train": train_split, "validation": validation_split}
    checkpoint = model_volume() / "checkpoints" / f"{artefact_id(STEP, recipe, inputs)}.pt"

    def build(folder: Path) -> dict[str, Any]:
        import torch

        from steps.train.fit import Job, Recipe, launch

        job = Job(
            Recipe(**recipe),
            read_split(train_split).path,
            read_split(validation_split).path,
            folder,
            checkpoint,
            in_memory_mb << 20,
        )
        launch(job, processes=max(torch.cuda.device_count(), 1))
        history = json.loads((folder / "history.json").read_text())
        return {**history[-1], "seed": seed, "device": "cuda" if torch.cuda.is_available() else "cpu"}

    with progress.running(STEP):
        network = produce(model_volume(), "network", STEP, parameters=recipe, inputs=inputs, build=build)
        checkpoint.unlink(missing_ok=True)
        facts = network.facts
        made = f"{epochs} epochs, {facts['validation_accuracy']:.2%} on validation"
        progress.finished(STEP, made=made, unchanged=network.unchanged, id=network.id)
        return network.id
