"""Train model: reads the training and validation splits and pretrained weights, writes `<model volume>/network/<id>/`.

A killed run leaves `<model volume>/checkpoints/<id>.pt`; the next run resumes from it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from contract.environment import Environment
from steps.common import progress
from steps.common.errors import StepError
from steps.common.images.format import format_of, images_of
from steps.common.models.pretrained import FILE, KIND
from steps.common.parameters import SMALL, ImageFormat, typed
from steps.common.store import Artefact, artefact_id, await_made, find, produce, read
from steps.common.volumes import data_volume, model_volume
from steps.train.auto import Chosen, Numbers, check_batch, numbers
from steps.train.parameters import Train

STEP = "train"
NETWORK = "network"  # the kind of what it makes


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
        job = Environment().train_job
        network = network_of_a_job(job, parameters, inputs) if job else network_of(parameters, inputs)
        choice = Chosen(**{name: network.facts[name] for name in Chosen.__dataclass_fields__})
        what = choice if is_small else f"{parameters.backbone}, {choice}"
        made = f"{what}, {network.facts['validation_accuracy']:.2%} on validation"
        progress.finished(STEP, made=made, unchanged=network.unchanged, id=network.id)
        return network.id


def network_of_a_job(job: str, parameters: Train, inputs: Mapping[str, str]) -> Artefact:
    """The network, which a TrainJob makes unless it is there.

    Args:
        job: The TrainJob, as JSON without its arguments.
        parameters: The section `train` of `params.yaml`, with its backbone named.
        inputs: The ids of the splits, and of the weights if there are any, by their roles.

    Returns:
        The network.

    Raises:
        StepError: The job cannot be created, or fails; or a batch is too small for its processes.
    """
    from steps.train.cluster.follow import follow, processes

    known, recipe, _ = _recipe(parameters, inputs)
    id = artefact_id(STEP, recipe, inputs)
    if network := find(model_volume(), NETWORK, id):
        return network
    check_batch(known.batch_size, processes(job))
    given = (f"--{role}={of}" for role, of in inputs.items())
    arguments = ["network", *given, f"--parameters={parameters.model_dump_json()}"]
    follow(job, id, arguments, lambda: find(model_volume(), NETWORK, id) is not None)
    network = await_made(model_volume(), NETWORK, id)
    if network is None:
        raise StepError(
            f"the TrainJob has ended well, and {model_volume() / NETWORK / id} is not here: see that its pods mount "
            "the same claims, and that these are of a file system that all nodes share"
        )
    return Artefact(network.path, network.manifest, unchanged=False)


def network_of(parameters: Train, inputs: Mapping[str, str]) -> Artefact:
    """The network, which this process makes unless it is there, alone or with the others of its group.

    Args:
        parameters: The section `train` of `params.yaml`, with its backbone named.
        inputs: The ids of the splits, and of the weights if there are any, by their roles.

    Returns:
        The network.

    Raises:
        StepError: Training diverges, or a batch is too small; or the weights are not the backbone's.
    """
    known, recipe, image_format = _recipe(parameters, inputs)
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

    network = produce(model_volume(), NETWORK, STEP, parameters=recipe, inputs=inputs, build=build)
    checkpoint.unlink(missing_ok=True)
    return network


def _recipe(parameters: Train, inputs: Mapping[str, str]) -> tuple[Numbers, dict[str, Any], ImageFormat]:
    """What was chosen by the number of images, what decides the network, and the images' format."""
    image_format = format_of(inputs["train"])
    known = numbers(parameters, images_of(inputs["train"]), image_format)
    return known, parameters.model_copy(update=known.deciding()).deciding(), image_format
