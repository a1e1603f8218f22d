"""Measures accuracy over five seeds, and throughput beside a plain loop.

Reads the sample; writes only temporary files.
"""

import contextlib
import io
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plain.loop import train_plainly
from pipeline.settings import Params
from steps.common.images.dataset import KIND, Split, open_split
from steps.common.images.format import format_of
from steps.common.models.embedding import embed_images, load_network
from steps.common.models.network import EmbeddingNetwork
from steps.common.volumes import data_volume
from steps.preprocess.preprocess import preprocess
from steps.train.auto import Chosen, chosen, numbers
from steps.train.fit import Job, fit
from steps.train.parameters import Train

SEEDS = range(5)


def measure(params: Params) -> list[tuple[str, str]]:
    """Train with each of SEEDS and with the plain loop; rows of a name and its figure."""
    # As preprocess decides for the sample.
    params = params.model_copy(update={"train": params.train.resolved("")})
    with tempfile.TemporaryDirectory() as folder, volumes(folder), contextlib.redirect_stdout(io.StringIO()):
        runs = [_one_seed(params, seed, Path(folder)) for seed in SEEDS]
        plain_rates, plain_accuracies = _plain(params)
    accuracies, rates = zip(*runs, strict=True)
    return [
        ("accuracy on 1,000 held-out digits, mean of five seeds", f"{np.mean(accuracies):.4f}"),
        ("  each", ", ".join(f"{accuracy:.3f}" for accuracy in accuracies)),
        ("plain loop, two epochs", f"{plain_accuracies:.4f}"),
        ("training, images/s", f"{np.median(rates):,.0f}"),
        ("plain loop, images/s", f"{plain_rates:,.0f}"),
        ("ratio", f"{np.median(rates) / plain_rates:.1f}"),
    ]


@contextlib.contextmanager
def volumes(folder: str) -> Any:
    """Set VOLUMES to a folder within the `with` block."""
    before = os.environ.get("VOLUMES")
    os.environ["VOLUMES"] = folder
    try:
        yield
    finally:
        os.environ.pop("VOLUMES") if before is None else os.environ.update(VOLUMES=before)


def _one_seed(params: Params, seed: int, folder: Path) -> tuple[float, float]:
    """Accuracy and images per second; the seed decides splits, weights, order and augmentation."""
    splits = _splits(params, seed)
    parameters = params.train.model_copy(update={"seed": seed})
    target = folder / f"network-{seed}"
    target.mkdir()
    choice = _chosen(parameters, splits)
    job = Job(parameters, choice, splits["train"].path, splits["validation"].path, target, folder / f"{seed}.pt")
    began = time.perf_counter()
    fit(job)
    rate = choice.epochs * len(splits["train"]) / (time.perf_counter() - began)
    return _accuracy(load_network(target), splits), rate


def _chosen(parameters: Train, splits: dict[str, Split]) -> Chosen:
    image_format = format_of(splits["train"].path.name)
    known = numbers(parameters, len(splits["train"]), image_format)
    return chosen(parameters, known, splits["train"], splits["validation"])


def _plain(params: Params) -> tuple[float, float]:
    splits = _splits(params, seed=0)
    network, rate = train_plainly(splits["train"], params.train, _chosen(params.train, splits), epochs=2)
    return rate, _accuracy(network, splits)


def _splits(params: Params, seed: int) -> dict[str, Split]:
    ids = preprocess(params.data.model_copy(update={"source": "sample", "seed": seed}))
    return {name: open_split(data_volume() / KIND / id) for name, id in ids.items()}


def _accuracy(network: EmbeddingNetwork, splits: dict[str, Split]) -> float:
    gallery, test = splits["gallery"], splits["test"]
    of_test, known = (embed_images(network, split.images, 500).embeddings for split in (test, gallery))
    cosines = of_test @ known.T
    return float((gallery.labels[cosines.argmax(1)] == test.labels).mean())
