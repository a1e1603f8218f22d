"""Size and channels follow from the images where they are `auto`: whatever their order, and whatever is remembered."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.events import Finished, parse
from steps.common.images.dataset import read_split
from steps.common.images.format import format_of
from steps.common.parameters import ImageFormat, WantedFormat
from steps.preprocess.preprocess import preprocess
from steps.preprocess.sources import scan
from steps.preprocess.sources.auto_format import resolved
from steps.preprocess.sources.folder import Folder
from steps.preprocess.sources.source import Part
from tests.support.examples import PARAMS

FOLDER = {**PARAMS["data"], "source": "folder", "validation_fraction": 0.2}
AUTO = WantedFormat()
Draw = Callable[..., None]


@pytest.fixture
def draw(volumes: Path) -> Draw:
    """Puts so many images of a size and mode into the class folders `a` and `b`."""
    random = np.random.default_rng(0)

    def draw(count: int, size: tuple[int, int], mode: str, name: str = "", ends: str = "png") -> None:
        for number in range(count):
            path = volumes / "data/images/train" / "ab"[number % 2] / f"{name}{number}.{ends}"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = random.integers(0, 256, (size[1], size[0], 3) if mode == "RGB" else size[::-1], np.uint8)
            Image.fromarray(pixels).convert("RGB" if mode == "RGB of grey" else mode).save(path)

    return draw


def chosen(wanted: WantedFormat = AUTO) -> ImageFormat:
    return resolved(wanted, Folder().read()["train"], 10**6)


@pytest.mark.parametrize(
    ("side", "size"), [(8, 28), (28, 28), (29, 32), (33, 64), (64, 64), (65, 128), (129, 224), (300, 224)]
)
def test_the_size_is_the_least_that_is_not_below_the_median(draw: Draw, side: int, size: int) -> None:
    draw(3, (side, side // 2 + 1), "L")
    draw(1, (400, 400), "L", "large")
    draw(1, (4, 4), "L", "small")
    assert chosen() == ImageFormat(image_size=size, channels=1)


def test_greys_saved_as_colours_are_grey(draw: Draw) -> None:
    draw(10, (20, 20), "RGB of grey")
    draw(10, (20, 20), "RGB of grey", ends="jpg")
    assert chosen().channels == 1


def test_a_few_coloured_images_make_no_colour(draw: Draw) -> None:
    draw(199, (8, 8), "L")
    draw(1, (8, 8), "RGB", "coloured")
    assert chosen().channels == 1
    draw(5, (8, 8), "RGB", "coloured")
    assert chosen().channels == 3


def test_unreadable_images_do_not_count(draw: Draw, volumes: Path) -> None:
    draw(3, (30, 30), "L")
    for number in range(5):
        (volumes / f"data/images/train/a/{number}.bad.png").write_bytes(b"no image")
    assert chosen() == ImageFormat(image_size=32, channels=1)


def test_numbers_win_and_then_no_image_is_looked_at() -> None:
    def fail(_: int) -> bytes:
        raise AssertionError("it was read")

    part = Part(["a"], ["a/1.png"], fail)
    wanted = WantedFormat(image_size=20, channels=3)
    assert resolved(wanted, part, 10**6) == ImageFormat(image_size=20, channels=3)
    array = Part(["a"], ["a/1"], lambda _: np.zeros((50, 50), np.uint8))
    assert resolved(WantedFormat(image_size=20), array, 10**6) == ImageFormat(image_size=20, channels=1)
    assert resolved(WantedFormat(channels=3), array, 10**6) == ImageFormat(image_size=64, channels=3)


def test_what_was_seen_is_remembered_and_a_changed_file_is_looked_at_again(
    draw: Draw, volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "RACY_SECONDS", -1)  # as if the files were written long ago
    draw(4, (30, 30), "RGB")
    first = chosen()
    monkeypatch.setattr(scan.Found, "read", lambda *_: pytest.fail("it was read"))
    assert chosen() == first == ImageFormat(image_size=32, channels=3)
    monkeypatch.undo()
    monkeypatch.setenv("VOLUMES", str(volumes))
    monkeypatch.setattr(scan, "RACY_SECONDS", -1)
    draw(4, (100, 100), "L")
    assert chosen() == ImageFormat(image_size=128, channels=1)
    (volumes / "data/cache/looks.json").write_text('{"program": []}')
    assert chosen() == ImageFormat(image_size=128, channels=1)


def test_ids_rest_on_what_was_chosen_and_not_on_how(
    draw: Draw, volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(30, (30, 30), "RGB")
    ids = preprocess(FOLDER)
    finished = [event for line in capsys.readouterr().out.splitlines() if isinstance(event := parse(line), Finished)]
    assert finished[0].made.endswith(", of 32 x 32 colour")
    assert format_of(ids["train"]) == ImageFormat(image_size=32, channels=3)
    assert read_split(ids["train"]).images.shape[1:] == (32, 32, 3)
    shutil.rmtree(volumes / "data/cache")
    train = volumes / "data/images/train"
    train.rename(train.with_name("old"))
    for path in sorted((train.with_name("old")).rglob("*.png"), reverse=True):  # listed in another order
        (train / path.parent.name).mkdir(parents=True, exist_ok=True)
        path.rename(train / path.parent.name / f"{1000 - int(path.stem)}.png")
    shutil.rmtree(train.with_name("old"))
    assert preprocess(FOLDER) == ids
    assert preprocess({**FOLDER, "image_size": 32, "channels": 3}) == ids
    assert preprocess({**FOLDER, "image_size": 28}) != ids
