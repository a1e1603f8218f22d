"""Measures how many digits, and how many other images, a model calls unknown.

Reads the sample; writes only temporary files.
"""

import contextlib
import io
import json
import tempfile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.training import volumes
from pipeline.settings import Params
from steps.analyse.calibrate import unknown_distance
from steps.analyse.evaluate import nearest, stored_network
from steps.common.images.dataset import read_split
from steps.common.volumes import model_volume
from steps.embed.embed import embed
from steps.index.index import index
from steps.preprocess.preprocess import preprocess
from steps.train.train import train

QUANTILES = (0.95, 0.99, 0.995)
LETTERS = "ABCDEFGHJKLMNPQRTUVWXY"  # without those that look like digits
_SIZES = (18, 20, 22, 24)


def measure(params: Params) -> list[tuple[str, str]]:
    """Train once; a row for each kind of image: its name, and its unknown share at each of QUANTILES."""
    with tempfile.TemporaryDirectory() as folder, volumes(folder), contextlib.redirect_stdout(io.StringIO()):
        splits = preprocess(params.data)
        network = train(splits["train"], splits["validation"], params.train)
        gallery = index(embed(splits["gallery"], network, params.embed), params.index)
        embedder = stored_network(model_volume() / "network" / network, [], params.embed.batch_size)
        folder_of_index, neighbours = model_volume() / "index" / gallery, params.deploy.neighbours
        validation, test = read_split(splits["validation"]), read_split(splits["test"])
        calibrated, _ = nearest(embedder, folder_of_index, validation.images, neighbours)
        limits = [unknown_distance(calibrated, quantile) for quantile in QUANTILES]
        rows = []
        for kind, images in {"test digits": np.array(test.images), **_others(np.array(test.images))}.items():
            distances, _ = nearest(embedder, folder_of_index, images, neighbours)
            shares = [float(np.mean(distances > limit)) for limit in limits if limit is not None]
            rows.append((f"{kind} ({len(images)})", ", ".join(f"{share:.1%}" for share in shares)))
    return [("unknown at analyse.unknown_quantile", json.dumps(QUANTILES).strip("[]")), *rows]


def _others(digits: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Images uint8 [N, 28, 28, 1] that show no digits, by kind."""
    draw = np.random.default_rng(0)
    return {
        "digits, inverted": 255 - digits,
        "digits, the lower half black": np.concatenate([digits[:, :14], np.zeros_like(digits[:, 14:])], axis=1),
        "printed letters": np.stack([_printed(letter, size) for size in _SIZES for letter in LETTERS]),
        "evenly grey": np.stack([np.full(digits.shape[1:], value, np.uint8) for value in range(256)]),
        "noise, pixel by pixel": draw.integers(0, 256, (500, *digits.shape[1:]), np.uint8),
        "noise, in soft blots": np.stack([_blots(draw) for _ in range(500)]),
    }


def _printed(letter: str, size: int) -> NDArray[np.uint8]:
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).text((14, 14), letter, fill=255, font=ImageFont.load_default(size), anchor="mm")
    return np.array(image)[:, :, None]


def _blots(draw: np.random.Generator) -> NDArray[np.uint8]:
    coarse = Image.fromarray(draw.integers(0, 256, (7, 7), np.uint8))
    return np.array(coarse.resize((28, 28), Image.Resampling.BICUBIC))[:, :, None]
