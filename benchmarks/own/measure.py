"""Measures first runs on own images: with `auto` for all that follows from the data, beside what needs no training.

Makes pictures in a temporary folder, puts them into the data volume as `make run IMAGES=` does, and runs preprocess and
train. Each draw holds out a fifth. Accuracy is that of the nearest gallery image.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.own import emoji
from benchmarks.training import volumes
from pipeline.local.own_images import copy_images
from pipeline.settings import Params
from steps.analyse.answers import true_labels
from steps.common.images.dataset import Split, read_split
from steps.common.images.format import format_of
from steps.common.models.embedding import embed_images, load_network
from steps.common.store import read
from steps.common.volumes import model_volume
from steps.preprocess.preprocess import preprocess
from steps.train.train import train

DRAWS = (0, 1, 2)
_BATCH = 500
_COLOURS = {"red": (200, 40, 40), "green": (40, 122, 40)}  # the same grey, 88
_OF_EACH = 120


@dataclass(frozen=True)
class _Result:
    """Of one draw: accuracy of the run, and of nearest neighbours of pixels; what `auto` chose; processor seconds."""

    accuracy: float
    pixels: float
    chosen: str
    seconds: float


def measure(params: Params) -> Iterator[str]:
    """Run on each set of images.

    Args:
        params: `params.yaml`.

    Yields:
        The lines of a table in Markdown.
    """
    yield "| images | draws | nearest pixels | this run | what `auto` chose | processor, s |"
    yield "|---|--:|--:|--:|---|--:|"
    for name, write, change in (
        ("emoji", _emoji, {}),
        ("8 x 8 digits of scikit-learn", _digits, {}),
        ("two colours", _two_colours, {}),
        ("two colours, `data.channels: 1`", _two_colours, {"channels": 1}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            if missing := write(Path(folder)):
                yield f"| {name} | | | | {missing} | |"
                continue
            found = [_run(params, Path(folder), {**change, "seed": seed}) for seed in DRAWS]
        accuracies, pixels = np.mean([(each.accuracy, each.pixels) for each in found], axis=0)
        each = ", ".join(f"{one.accuracy:.3f}" for one in found)
        yield (
            f"| {name} | {len(found)} | {pixels:.3f} | {accuracies:.3f} ({each}) | {found[0].chosen} "
            f"| {np.mean([one.seconds for one in found]):.0f} |"
        )


def _run(params: Params, folder: Path, change: dict[str, Any]) -> _Result:
    with tempfile.TemporaryDirectory() as temporary, volumes(temporary), contextlib.redirect_stdout(io.StringIO()):
        copy_images(folder, [])
        ids = preprocess(params.data.model_copy(update={"source": "folder", **change}))
        began = time.process_time()
        network = train(ids["train"], ids["validation"], params.train)
        seconds = time.process_time() - began
        made = read(model_volume(), "network", network)
        gallery, test = read_split(ids["gallery"]), read_split(ids["test"])
        found = load_network(made.path)
        accuracy = _first_neighbour(gallery, test, lambda split: embed_images(found, split.images, _BATCH).embeddings)
        facts = made.facts
        chosen = f"{format_of(ids['train'])}, {facts['epochs']} epochs, batches of {facts['batch_size']}"
        chosen += f", widths {facts['widths']}, flip {str(facts['flip']).lower()}, class_power {facts['class_power']:g}"
        return _Result(accuracy, _first_neighbour(gallery, test, _pixels), chosen, seconds)


def _first_neighbour(gallery: Split, test: Split, embed: Callable[[Split], NDArray[np.float32]]) -> float:
    nearest = (embed(test) @ embed(gallery).T).argmax(1)
    return float(np.mean(np.array(true_labels(gallery))[nearest] == np.array(true_labels(test))))


def _pixels(split: Split) -> NDArray[np.float32]:
    """Pixels float32 [N, D] of length one, without the mean of each image's."""
    flat = split.images[:].reshape(len(split), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6), np.float32)


def _emoji(folder: Path) -> str | None:
    if missing := emoji.missing():
        return missing
    emoji.write(folder)
    return None


def _digits(folder: Path) -> str | None:
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-not-found]  # a benchmark alone needs it
    except ImportError:
        return "pip install scikit-learn"
    digits = load_digits()
    for row, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray(np.clip(image * 16, 0, 255).astype(np.uint8)).save(folder / str(label) / f"{row}.png")
    return None


def _two_colours(folder: Path) -> str | None:
    """Two classes of the same shapes: discs on white, in one colour each, of the same grey."""
    random = np.random.default_rng(0)
    for label, colour in _COLOURS.items():
        (folder / label).mkdir()
        for number in range(_OF_EACH):
            image = Image.new("RGB", (24, 24), "white")
            x, y, radius = (int(random.integers(*limits)) for limits in ((8, 16), (8, 16), (3, 7)))
            ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
            image.save(folder / label / f"{number}.png")
    return None
