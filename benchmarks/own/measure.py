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
from steps.common.models.backbone import Backbone, load_pretrained
from steps.common.models.embedding import embed_images, load_network
from steps.common.store import read
from steps.common.volumes import model_volume
from steps.preprocess.preprocess import prepare, preprocess
from steps.train.train import train

DRAWS = (0, 1, 2)
_BATCH = 500
_COLOURS = {"red": (200, 40, 40), "green": (40, 122, 40)}  # the same grey, 88
_OF_EACH = 120


@dataclass(frozen=True)
class _Result:
    """Of one draw.

    Attributes:
        accuracy: Of the run.
        bound: Of nearest neighbours by what needs no training: pixels, or features of the pretrained backbone.
        chosen: What `auto` chose.
        seconds: Of the processor, for training.
    """

    accuracy: float
    bound: float
    chosen: str
    seconds: float


def measure_pretrained(params: Params, weights: Path) -> Iterator[str]:
    """Run on the emoji with pretrained weights.

    Args:
        params: `params.yaml`.
        weights: The weights of the backbone that `auto` takes, as timm publishes them.

    Yields:
        The lines of a table in Markdown.
    """
    yield "| images | draws | nearest frozen features | this run | what `auto` chose | processor, s |"
    yield "|---|--:|--:|--:|---|--:|"
    with tempfile.TemporaryDirectory() as folder:
        if missing := _emoji(Path(folder)):
            yield f"| emoji | | | | {missing} | |"
            return
        yield _row("emoji", [_run(params, Path(folder), {"seed": seed}, weights.absolute()) for seed in DRAWS])


def measure(params: Params) -> Iterator[str]:
    """Run on each set of images, without pretrained weights.

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
            yield _row(name, [_run(params, Path(folder), {**change, "seed": seed}) for seed in DRAWS])


def _row(name: str, found: list[_Result]) -> str:
    accuracy, bound, seconds = np.mean([(each.accuracy, each.bound, each.seconds) for each in found], axis=0)
    each = ", ".join(f"{one.accuracy:.3f}" for one in found)
    return f"| {name} | {len(found)} | {bound:.3f} | {accuracy:.3f} ({each}) | {found[0].chosen} | {seconds:.0f} |"


def _run(params: Params, folder: Path, change: dict[str, Any], weights: Path | None = None) -> _Result:
    with tempfile.TemporaryDirectory() as temporary, volumes(temporary), contextlib.redirect_stdout(io.StringIO()):
        copy_images(folder, [])
        data = params.data.model_copy(update={"source": "folder", **change})
        training = params.train.model_copy(update={"backbone_url": weights.as_uri()} if weights else {})
        if weights:
            ids, found = prepare(data, training)
        else:
            ids, found = preprocess(data), None
        began = time.process_time()
        network = train(ids["train"], ids["validation"], training, *([found.id] if found else []))
        seconds = time.process_time() - began
        made = read(model_volume(), "network", network)
        gallery, test = read_split(ids["gallery"]), read_split(ids["test"])
        trained = load_network(made.path)
        facts = made.facts
        chosen = f"{format_of(ids['train'])}, {facts['epochs']} epochs, batches of {facts['batch_size']}"
        backbone = trained.config.get("backbone")
        chosen += f", {backbone}" if backbone else f", widths {facts['widths']}"
        chosen += f", flip {str(facts['flip']).lower()}, class_power {facts['class_power']:g}"
        if weights:
            frozen = Backbone(**trained.config)
            load_pretrained(frozen, weights)
            frozen.eval()
            bound = _first_neighbour(
                gallery, test, lambda split: _directions(embed_images(frozen, split.images, _BATCH).features)
            )
        else:
            bound = _first_neighbour(gallery, test, _pixels)
        accuracy = _first_neighbour(gallery, test, lambda split: embed_images(trained, split.images, _BATCH).embeddings)
        return _Result(accuracy, bound, chosen, seconds)


def _directions(features: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Features float [N, D], each of length one."""
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)


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
