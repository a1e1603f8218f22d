"""Measures how often drift is seen where there is some, and where there is none.

Trains once on the sample without one digit; reads the sample, writes only temporary files.
"""

import contextlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from benchmarks.training import volumes
from contract.loop.collected import UNKNOWN
from contract.loop.drift import Word
from pipeline.settings import Params
from steps.analyse.answers import Limits
from steps.analyse.calibrate import calibrate
from steps.analyse.evaluate import ask, stored_network
from steps.common.images.dataset import read_split
from steps.common.images.png import encode_png
from steps.common.volumes import data_volume, model_volume
from steps.drift.compare import compare
from steps.drift.parameters import Drift
from steps.drift.sample import FARTHEST, Sample
from steps.embed.embed import embed
from steps.index.index import index
from steps.preprocess.preprocess import preprocess
from steps.preprocess.sources.sample import SAMPLE
from steps.train.train import train

TRIALS = 200
SIZES = (100, 250, 500)
LEFT_OUT = 9  # the digit that is not learned
TEST_FRACTION = 0.35  # of the images, so that the test images are enough for a reference and for requests
_DEGREES = 25
_FREQUENT = 6

Pictures = NDArray[np.uint8]  # [N, H, W, 1]
Draw = np.random.Generator


@dataclass(frozen=True)
class Pool:
    """Answers to images, a row each."""

    labels: NDArray[np.str_]
    distances: NDArray[np.float64]
    features_distances: NDArray[np.float64]

    def taken(self, rows: NDArray[np.int64]) -> Sample:
        """The answers to some of the images."""
        return Sample(Counter(self.labels[rows].tolist()), self.distances[rows], self.features_distances[rows])


def measure(params: Params) -> Iterator[str]:
    """Draw TRIALS references and requests from images that no training had, and compare them.

    Args:
        params: The parameters of this project.

    Yields:
        Lines of Markdown: for each kind of request the share of the trials that say watch or retrain, and in brackets
        retrain alone, at each of SIZES.
    """
    with tempfile.TemporaryDirectory() as folder, volumes(folder), contextlib.redirect_stdout(io.StringIO()):
        true, pools, others = _answers(params)
    counts = [_trials(true, pools, others, params.drift, size) for size in SIZES]
    reference = len(true) - max(SIZES)
    yield f"{TRIALS} trials a row, {reference} images of test, nine classes"
    yield ""
    yield f"| requests | {' | '.join(map(str, SIZES))} |"
    yield f"|---|{'--:|' * len(SIZES)}"
    for kind in counts[0]:
        shares = [[np.mean(np.array(each[kind]) >= word) for word in (Word.WATCH, Word.RETRAIN)] for each in counts]
        yield f"| {kind} | {' | '.join(f'{any:.1%} ({retrain:.1%})' for any, retrain in shares)} |"


def _trials(
    true: NDArray[np.int64], pools: Mapping[str, Pool], others: Pool, drift: Drift, size: int
) -> dict[str, list[Word]]:
    """What each trial says of each kind of requests."""
    draw, found = np.random.default_rng(size), dict[str, list[Word]]()
    plain = pools["fresh digits"]
    for _ in range(TRIALS):
        rows = draw.permutation(len(true))
        test, fresh = plain.taken(rows[: -max(SIZES)]), rows[-max(SIZES) :]
        served = {kind: pool.taken(fresh[:size]) for kind, pool in pools.items()}
        for share in (0.1, 0.3, 1.0):
            many = int(draw.binomial(size, share))
            served[f"{share:.0%} of a new class"] = _joined(
                plain, fresh[: size - many], others, draw.choice(len(others.labels), many, replace=False)
            )
        weights = np.where(true[fresh] == draw.choice(np.unique(true)), _FREQUENT, 1)
        served[f"one class {_FREQUENT} times as frequent"] = plain.taken(
            draw.choice(fresh, size, p=weights / weights.sum())
        )
        for kind, sample in served.items():
            found.setdefault(kind, []).append(compare(test, sample, drift).word)
    return found


def _joined(one: Pool, rows: NDArray[np.int64], other: Pool, of_other: NDArray[np.int64]) -> Sample:
    labels = [*one.labels[rows].tolist(), *other.labels[of_other].tolist()]
    distances = np.concatenate([one.distances[rows], other.distances[of_other]])
    features = np.concatenate([one.features_distances[rows], other.features_distances[of_other]])
    return Sample(Counter(labels), distances, features)


def _answers(params: Params) -> tuple[NDArray[np.int64], dict[str, Pool], Pool]:
    """Train once: the true labels of test images, the answers to them in each form, and to those of the other digit."""
    with np.load(SAMPLE) as sample:
        images, labels = sample["images"], sample["labels"]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        if label != LEFT_OUT:
            path = data_volume() / "images/train" / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(image))
    data = params.data.model_copy(update={"source": "folder", "test_fraction": TEST_FRACTION})
    training = params.train.model_copy(update={"backbone": "small"})
    splits = preprocess(data)
    network = train(splits["train"], splits["validation"], training)
    gallery = index(embed(splits["gallery"], network, params.embed), params.index)
    places = model_volume() / "network" / network, model_volume() / "index" / gallery
    facts = calibrate(
        read_split(splits["validation"]),
        read_split(splits["gallery"]).rows,
        *places,
        batch_size=params.embed.batch_size,
        neighbours=params.deploy.neighbours,
        unknown_quantile=params.analyse.unknown_quantile,
    )
    network_of = stored_network(*places, [], params.embed.batch_size)

    def pool(pictures: Pictures) -> Pool:
        found = ask(network_of, places[1], pictures, limits=Limits.of(facts), neighbours=params.deploy.neighbours)
        features = found.nearest.features_distances
        assert features is not None
        distances = np.where(np.isfinite(found.nearest.distances), found.nearest.distances, FARTHEST)
        return Pool(np.array(found.labels), distances, features)

    test = read_split(splits["test"])
    pixels: Pictures = np.array(test.images)
    pools = {kind: pool(change(pixels)) for kind, change in _CHANGES.items()}
    classes = json.loads((places[1] / "labels.json").read_text())["classes"]
    assert UNKNOWN not in classes
    return test.labels.astype(np.int64), pools, pool(images[labels == LEFT_OUT][..., None])


def _rotated(pictures: Pictures) -> Pictures:
    signs = np.random.default_rng(0).choice([-1, 1], len(pictures))
    return _each(pictures, lambda image, row: image.rotate(_DEGREES * signs[row], Image.Resampling.BILINEAR))


def _blurred(pictures: Pictures) -> Pictures:
    return _each(pictures, lambda image, _: image.filter(ImageFilter.GaussianBlur(1.5)))


def _each(pictures: Pictures, change: Callable[[Image.Image, int], Image.Image]) -> Pictures:
    changed = [np.asarray(change(Image.fromarray(each[..., 0]), row)) for row, each in enumerate(pictures)]
    return np.stack(changed)[..., None]


_CHANGES: dict[str, Callable[[Pictures], Pictures]] = {
    "fresh digits": lambda pictures: pictures,
    f"rotated by {_DEGREES}°": _rotated,
    "inverted": lambda pictures: 255 - pictures,
    "blurred": _blurred,
}
