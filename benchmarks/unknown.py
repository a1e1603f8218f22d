"""Measures how many images of the classes, and how many others, a model calls unknown.

Reads the sample, or a folder of own images; writes only temporary files.
"""

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.own import emoji
from benchmarks.training import volumes
from pipeline.settings import Params
from steps.analyse.answers import Limits, Nearest
from steps.analyse.calibrate import choose_limits
from steps.analyse.evaluate import nearest, stored_network
from steps.common.images import decode
from steps.common.images.dataset import read_split
from steps.common.models.embedding import Images
from steps.common.volumes import data_volume, model_volume
from steps.embed.embed import embed
from steps.index.index import index
from steps.preprocess.preprocess import preprocess
from steps.train.train import train

QUANTILES = (0.98, 0.99, 0.995)
SEEDS = range(4)
LEFT_OUT = "food-drink"  # the group of emoji that is not learned
LETTERS = "ABCDEFGHJKLMNPQRTUVWXY"  # without those that look like digits
_SIZES = (18, 20, 22, 24)
_DRAWN = 500

Kinds = dict[str, NDArray[np.uint8]]  # images uint8 [N, H, W, C] that are of no class, by what they show


def measure(params: Params) -> Iterator[str]:
    """Train on the sample with each of SEEDS, then on emoji without a group of them.

    Args:
        params: The parameters of this project.

    Yields:
        Lines of Markdown: for each kind of image its unknown share, by the embedding alone at one of QUANTILES, and by
        embedding and features at each. It is that of the first network, and in brackets that of all, in the mean.
    """
    with tempfile.TemporaryDirectory() as folder, volumes(folder):
        found = []
        for seed in SEEDS:
            with contextlib.redirect_stdout(io.StringIO()):
                own = params.train.model_copy(update={"seed": seed})
                letters = np.stack([_printed(letter, size) for size in _SIZES for letter in LETTERS])
                found.append(_shares(params.model_copy(update={"train": own}), {"printed letters": letters}))
    yield from _table(found)
    yield ""
    if missing := emoji.missing():
        yield f"emoji are left out: {missing}"
        return
    with tempfile.TemporaryDirectory() as folder:
        known, others = Path(folder, "known"), Path(folder, LEFT_OUT)
        emoji.write(known)
        (known / LEFT_OUT).rename(others)
        yield from measure_own(params, known, others)


def measure_own(params: Params, images: Path, others: Path) -> Iterator[str]:
    """Train on own images.

    Args:
        params: The parameters; the source of the images is set here.
        images: A folder for each class.
        others: Images of no class, at any depth.

    Yields:
        Likewise.
    """
    with tempfile.TemporaryDirectory() as folder, volumes(folder), contextlib.redirect_stdout(io.StringIO()):
        shutil.copytree(images, data_volume() / "images/train")
        data = params.data.model_copy(update={"source": "folder"})
        paths = [path for path in sorted(others.rglob("*")) if path.is_file()]
        shown = {others.name: paths}
        found = _shares(params.model_copy(update={"data": data}), {}, shown)
    yield from _table([found])


def _table(runs: Sequence[Mapping[str, list[float]]]) -> Iterator[str]:
    yield f"| `analyse.unknown_quantile` | 0.99, embedding alone | {' | '.join(map(str, QUANTILES))} |"
    yield f"|---|{'--:|' * (1 + len(QUANTILES))}"
    for kind, first in runs[0].items():
        means = np.mean([run[kind] for run in runs], axis=0)
        shares = [
            "-" if np.isnan(share) else f"{share:.1%}" + (f" ({mean:.1%})" if len(runs) > 1 else "")
            for share, mean in zip(first, means, strict=True)
        ]
        yield f"| {kind} | {' | '.join(shares)} |"


def _shares(params: Params, others: Kinds, files: Mapping[str, list[Path]] | None = None) -> dict[str, list[float]]:
    """Train once: for each kind of image, with their number, the unknown shares that a line of the table has."""
    splits = preprocess(params.data)
    network = train(splits["train"], splits["validation"], params.train)
    gallery = index(embed(splits["gallery"], network, params.embed), params.index)
    folder = model_volume() / "index" / gallery
    embedder = stored_network(model_volume() / "network" / network, folder, [], params.embed.batch_size)

    def found(images: Images) -> Nearest:
        return nearest(embedder, folder, images, params.deploy.neighbours)

    test = read_split(splits["test"]).images
    calibrated = found(read_split(splits["validation"]).images)
    alone = Nearest(calibrated.distances, calibrated.rows, None)
    limits = [choose_limits(alone, 0.99), *(choose_limits(calibrated, quantile) for quantile in QUANTILES)]
    pixels = np.array(test)
    kinds = {"test images": pixels, **_made_up(pixels), **others}
    kinds |= {name: _decoded(paths, pixels.shape[1:]) for name, paths in (files or {}).items()}
    return {f"{kind} ({len(images)})": _unknown(found(images), limits) for kind, images in kinds.items()}


def _unknown(found: Nearest, limits: list[Limits]) -> list[float]:
    """The unknown shares; NaN where the validation images were too few for a limit."""
    shares = [float(1 - found.known(each).mean()) for each in limits]
    return [np.nan if each.unknown_distance is None else share for each, share in zip(limits, shares, strict=True)]


def _decoded(paths: list[Path], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    side, _, channels = shape
    opened = (decode.read_header(path.read_bytes(), 20_000_000) for path in paths)
    return np.stack([decode.pixels(image, size=side, channels=channels) for image in opened])


def _made_up(images: NDArray[np.uint8]) -> Kinds:
    """Images of the shape of these uint8 [N, H, W, C] that show nothing of a class."""
    draw, shape = np.random.default_rng(0), images.shape[1:]
    half = images.copy()
    half[:, shape[0] // 2 :] = 0
    return {
        "test images, inverted": 255 - images,
        "test images, the lower half black": half,
        "evenly grey": np.stack([np.full(shape, value, np.uint8) for value in range(256)]),
        "noise, pixel by pixel": draw.integers(0, 256, (_DRAWN, *shape), np.uint8),
        "noise, in soft blots": np.stack([_blots(draw, shape) for _ in range(_DRAWN)]),
    }


def _printed(letter: str, size: int) -> NDArray[np.uint8]:
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).text((14, 14), letter, fill=255, font=ImageFont.load_default(size), anchor="mm")
    return np.array(image)[:, :, None]


def _blots(draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    planes = draw.integers(0, 256, (shape[2], 7, 7), np.uint8)
    drawn = [Image.fromarray(plane).resize((shape[1], shape[0]), Image.Resampling.BICUBIC) for plane in planes]
    return np.stack([np.asarray(each) for each in drawn], axis=-1)
