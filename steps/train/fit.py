"""Fits the network, in a process for each GPU: reads two splits, writes the network's files and checkpoints.

Several processes are torch.distributed: its elastic launcher, as in `torchrun`, and DistributedDataParallel. They share
each batch out, and compute what one process would: the same order and augmentation, normalised over the whole batch.
"""

import io
import json
import math
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

from contract.environment import Environment
from contract.events import Epoch, Resumed, Warned, emit
from steps.common.errors import DivergedError, StepError
from steps.common.files import write_atomically
from steps.common.images.dataset import Split, open_split
from steps.common.images.stored import StoredImages, read_ahead
from steps.common.models.network import EmbeddingNetwork
from steps.train.augment import augment, draw_maps
from steps.train.auto import Chosen, check_batch
from steps.train.learner import Learner, groups, new_learner
from steps.train.machine import chosen_device, trains_in_bfloat16
from steps.train.parameters import Train
from steps.train.sampling import epoch_rows
from steps.train.synced import sync

# How long a process waits for another one: the first measures accuracy alone, and looks at the data before.
_PATIENCE = timedelta(minutes=30)
_PIECE_BYTES = 4 << 20  # pixels that are read into memory at a time


@dataclass(frozen=True)
class Job:
    """One training run: its parameters, the folders of its splits, where the network and the checkpoint are written.

    What may be `auto` in its parameters is as it was chosen.
    """

    parameters: Train
    chosen: Chosen
    train: Path
    validation: Path
    folder: Path
    checkpoint: Path
    pretrained: Path | None = None  # weights of the backbone


def launch(job: Job, processes: int) -> None:
    """Fit in this process, or in several.

    Args:
        job: The training run.
        processes: How many processes, one for each GPU.

    Raises:
        StepError: if a batch is too small for the processes, or training diverges.
    """
    check_batch(job.chosen.batch_size, processes)
    if torch.distributed.is_initialized():
        fit(handed_over(job))
        return
    if processes == 1:
        fit(job)
        return
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id="fit",
    )
    try:
        elastic_launch(config, _fit_as_one_of_several)(job)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        raise StepError(f"training process {failure.local_rank} failed: {failure.message}") from error


@record
def _fit_as_one_of_several(job: Job) -> None:
    fit(job)


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that torch's launcher started, until they have trained."""
    if Environment().world_size == 1 or torch.distributed.is_initialized():
        yield
        return
    device = chosen_device(Environment().local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def handed_over(value: Any) -> Any:
    """Give all processes the first one's value, such as what is to do.

    Args:
        value: Any that can be pickled; that of other processes than the first does not count.

    Returns:
        The first process's.
    """
    if not torch.distributed.is_initialized():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def fit(job: Job) -> None:
    """Train from the last checkpoint, or from the start, and write the network's files.

    Args:
        job: The training run; in a process that torch's launcher started, its share of it.
    """
    environment = Environment()
    device = chosen_device(environment.local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with joined():
        _fit(job, device, environment.world_size, environment.rank)


def _fit(job: Job, device: torch.device, world: int, rank: int) -> None:
    parameters, chosen = job.parameters, job.chosen
    split, validation = open_split(job.train), open_split(job.validation)
    batches_of = _reader(split.images, device, parameters.in_memory_mb << 20)
    labels = torch.from_numpy(split.labels).to(device)
    learner = new_learner(split, parameters, chosen, job.pretrained)
    if world > 1:
        sync(learner)
    learner.to(device)
    learner.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    batch_size = min(chosen.batch_size, len(split))
    batches = len(split) // batch_size
    optimizer = torch.optim.AdamW(groups(learner, parameters, chosen.rate(parameters.learning_rate)), fused=True)
    schedule = _schedule(optimizer, parameters, steps=batches * chosen.epochs)
    history = _resume(job.checkpoint, learner, optimizer, schedule)
    precision = torch.autocast(device.type, torch.bfloat16, enabled=trains_in_bfloat16(learner.network, device))
    frozen_epochs = round(parameters.backbone_frozen * chosen.epochs) if job.pretrained else 0
    module: torch.nn.Module = learner
    if world > 1:  # made while every parameter has a gradient, since it asks once which do
        module = DistributedDataParallel(learner, find_unused_parameters=frozen_epochs > 0)

    for epoch in range(len(history), chosen.epochs):
        # The epoch is part of the seed, so that a resumed run draws the same as an uninterrupted one.
        order = epoch_rows(torch.from_numpy(split.labels), chosen.class_power, _generator(parameters.seed, epoch))
        generator = _generator(parameters.seed, epoch, 1)
        torch.manual_seed(_number(parameters.seed, epoch, 2, rank))  # for dropout, which draws of each process's images
        total = torch.zeros((), device=device)
        learner.train()
        learner.freeze(epoch < frozen_epochs)
        own = (order[batch * batch_size : (batch + 1) * batch_size][rank::world] for batch in range(batches))
        for rows, images in batches_of(own):
            maps = draw_maps(  # of the whole batch, so that they do not depend on the number of processes
                batch_size,
                generator,
                rotation=parameters.rotation,
                translation=parameters.translation,
                zoom=parameters.zoom,
                shear=parameters.shear,
                flip=chosen.flip,
            )
            with precision:
                loss = module(augment(images, maps[rank::world]), labels[rows.to(device)])
            loss = loss * (len(rows) * world / batch_size)  # the mean over all processes is the batch's
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
        if world > 1:
            torch.distributed.all_reduce(total)
        mean_loss = total.item() / batches / world
        if not np.isfinite(mean_loss):
            raise DivergedError(f"the loss is {mean_loss} in epoch {epoch + 1}: lower train.learning_rate")
        if rank == 0:
            accuracy = _validation_accuracy(learner, split, validation, device, batch_size)
            history.append({"loss": mean_loss, "validation_accuracy": accuracy})
            _save_checkpoint(job.checkpoint, learner, optimizer, schedule, history)
            emit(Epoch(epoch + 1, chosen.epochs, mean_loss, accuracy, "train"))
    if rank == 0:
        _save(learner.network, history, job.folder)


def _reader(
    images: StoredImages, device: torch.device, in_memory_bytes: int
) -> Callable[[Iterable[torch.Tensor]], Iterator[tuple[torch.Tensor, torch.Tensor]]]:
    """How batches are read: from memory if all images fit, else from disk, the next ones while one is used.

    Args:
        images: The images.
        device: Where batches go.
        in_memory_bytes: Most bytes that all images may have in memory.

    Returns:
        A function from the rows of each batch to pairs of these and the batch's images uint8 [n, H, W, C].
    """
    if images.nbytes <= in_memory_bytes:
        held = torch.empty(images.shape, dtype=torch.uint8)
        step = max(1, _PIECE_BYTES // max(1, images.nbytes // len(images)))
        pieces = [slice(start, start + step) for start in range(0, len(images), step)]
        for piece, found in zip(pieces, read_ahead(images, pieces), strict=True):
            held[piece] = torch.from_numpy(found)
        there = held.to(device)
        return lambda batches: ((rows, there[rows.to(device)]) for rows in batches)

    def read(batches: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        mine, theirs = tee(batches)
        found = read_ahead(images, (rows.numpy() for rows in theirs))
        return ((rows, torch.from_numpy(each).to(device)) for rows, each in zip(mine, found, strict=True))

    return read


def _schedule(optimizer: torch.optim.Optimizer, parameters: Train, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    warmup = parameters.warmup_fraction
    if math.isclose(warmup * steps, 1):  # torch would divide by zero steps of warm-up
        warmup *= 0.99
    highest = [group["lr"] for group in optimizer.param_groups]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps, pct_start=warmup)


def _validation_accuracy(learner: Learner, split: Split, validation: Split, device: torch.device, step: int) -> float:
    """Return the share of validation images whose nearest class centre is that of their class."""
    number = {label: i for i, label in enumerate(split.classes)}
    labels = np.array([number[validation.classes[label]] for label in validation.labels])
    learner.eval()
    right = 0
    with torch.inference_mode():
        for start, found in zip(range(0, len(labels), step), validation.batches(step), strict=True):
            images = torch.from_numpy(found).to(device)
            nearest = learner.arcface.cosines(learner.network(images)).argmax(1).cpu().numpy()
            right += int((nearest == labels[start : start + step]).sum())
    return right / len(labels)


def _save_checkpoint(
    path: Path,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    history: list[dict[str, float]],
) -> None:
    buffer = io.BytesIO()
    state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    torch.save({**state, "history": history}, buffer)
    buffer.seek(0)
    write_atomically(path, buffer)


def _resume(
    path: Path,
    learner: Learner,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> list[dict[str, float]]:
    """Restore the state in a checkpoint, and return the history of its epochs; an empty one if there is none."""
    # The first process reads it for all: on a volume that nodes share, others may still see the one before.
    state = handed_over(_checkpoint(path) if Environment().rank == 0 else None)
    if state is None:
        return []
    learner.load_state_dict(state["learner"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    history: list[dict[str, float]] = state["history"]
    return history


def _checkpoint(path: Path) -> dict[str, Any] | None:
    """What a checkpoint holds; None if there is none, or it is damaged."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        emit(Warned(f"{path} is damaged, so training starts anew ({error})", "train"))
        return None
    emit(Resumed(len(state["history"]), "train"))
    return state


def _save(network: EmbeddingNetwork, history: list[dict[str, float]], folder: Path) -> None:
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    (folder / "network.json").write_text(json.dumps(network.config) + "\n")
    (folder / "history.json").write_text(json.dumps(history, indent=2) + "\n")


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(_number(*numbers))


def _number(*numbers: int) -> int:
    """A seed that follows from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
