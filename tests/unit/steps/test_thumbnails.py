"""Thumbnails: each neighbour's picture is where its index says, and they fit the limit or are left out."""

import io
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steps.deploy import thumbnails
from steps.deploy.thumbnails import draw
from steps.preprocess.sources.sample import SAMPLE


def gallery(count: int, size: int, channels: int) -> np.ndarray:
    """Images of one shade each."""
    shades = np.random.default_rng(0).integers(0, 256, (count, 1, 1, channels), np.uint8)
    return np.broadcast_to(shades, (count, size, size, channels)).copy()


@pytest.mark.parametrize(("count", "size", "channels"), [(1, 28, 1), (10, 28, 1), (23, 100, 3), (7, 8, 3)])
def test_a_tile_is_found_by_the_index_of_a_neighbour(count: int, size: int, channels: int) -> None:
    images = gallery(count, size, channels)
    drawn = draw(images, 2_000_000)
    assert drawn is not None
    side, columns = drawn.layout()["side"], drawn.layout()["columns"]
    assert (side, drawn.images) == (min(size, 64), count)
    with Image.open(io.BytesIO(drawn.image)) as file:
        sheet = np.asarray(file.convert("RGB")).astype(int)
    for index, pixels in enumerate(images):
        row, column = divmod(index, columns)
        tile = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
        middle = tile[side // 4 : -(side // 4) or None, side // 4 : -(side // 4) or None]
        assert np.abs(middle.mean((0, 1)) - pixels[0, 0]).max() < 16, "WebP halves the colours"


def test_the_largest_tiles_that_fit_are_drawn() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 28, 28, 1), np.uint8)
    sizes = [draw(noise, limit) for limit in (10**7, 150_000, 60_000, 1_000)]
    sides = [drawn.side if drawn else None for drawn in sizes]
    assert sides[0] == 28
    assert sides[-1] is None
    assert [side for side in sides if side] == sorted((side for side in sides if side), reverse=True)
    assert len(set(sides)) >= 3
    for drawn, limit in zip(sizes, (10**7, 150_000, 60_000, 1_000), strict=True):
        assert drawn is None or len(drawn.image) <= limit
    again = draw(noise, 10**7)
    assert again == sizes[0], "equal images give equal bytes"


def test_a_large_gallery_costs_no_sheets_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The side is the one that trying each gives, and of the sheets that cannot fit none is drawn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1_100, 28, 28, 1), np.uint8)
    images[::3] = 0  # neighbours differ
    encoded, tiles = thumbnails._encoded, list[tuple[int, int]]()

    def spied(some: Iterable[Any], count: int, side: int, columns: int) -> bytes:
        tiles.append((count, side))
        return encoded(some, count, side, columns)

    sizes = {side: len(encoded(images, len(images), side, 34)) for side in (28, 20, 14)}
    monkeypatch.setattr(thumbnails, "_encoded", spied)
    for side, larger in ((28, ()), (20, (28,)), (14, (28, 20))):
        tiles.clear()
        drawn = draw(images, sizes[side])
        assert drawn is not None
        assert (drawn.side, len(drawn.image)) == (side, sizes[side])
        assert [each for count, each in tiles if count == len(images)] == [side]
        assert [each for count, each in tiles if count < len(images)] == [*larger, side]
    tiles.clear()
    assert draw(images, sizes[14] // 2) is None
    assert {count for count, _ in tiles} == {512}


def test_without_images_there_are_no_thumbnails() -> None:
    assert draw(np.zeros((0, 28, 28, 1), np.uint8), 10**6) is None


def test_the_thumbnails_of_the_sample_fit() -> None:
    with np.load(SAMPLE) as sample:
        drawn = draw(sample["images"][..., None], 2_000_000)
    assert drawn is not None
    assert drawn.side == 28
    print(f"{drawn.images} thumbnails of {drawn.side} pixels: {len(drawn.image)} bytes")
