"""Greys deeper than 8 bits: scaled by their own range, and turned where white is zero."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steps.common.images.decode import decode


def decoded(values: np.ndarray, kind: str, **options: Any) -> list[int]:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind, **options)
    pixels = decode(buffer.getvalue(), size=len(values), channels=1, max_pixels=10_000)
    return [int(value) for value in pixels[:, 0, 0]]


def ramp(*values: int, dtype: str = "uint16") -> np.ndarray:
    return np.repeat(np.array(values, dtype)[:, None], len(values), axis=1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ((0, 257, 32768, 65535), [0, 1, 128, 255]),
        ((0, 1024, 2048, 4095), [0, 64, 128, 255]),
        ((0, 256, 512, 1023), [0, 64, 128, 255]),
        ((0, 7, 100, 255), [0, 7, 100, 255]),
        ((0, 0, 0, 0), [0, 0, 0, 0]),
    ],
    ids=["16 bits", "12 bits", "10 bits", "8 bits", "black"],
)
def test_they_are_scaled_by_their_own_range(kind: str, values: tuple[int, ...], wanted: list[int]) -> None:
    assert decoded(ramp(*values), kind) == wanted


@pytest.mark.parametrize(("values", "wanted"), [((0, 65535), [255, 0]), ((0, 4095), [255, 0])])
def test_a_tiff_whose_white_is_zero_is_turned(values: tuple[int, ...], wanted: list[int]) -> None:
    assert decoded(ramp(*values), "TIFF", tiffinfo={262: 0}) == wanted


def test_8_bits_are_as_they_were() -> None:
    assert decoded(ramp(3, 200, dtype="uint8"), "PNG") == [3, 200]
