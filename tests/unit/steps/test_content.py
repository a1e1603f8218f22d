"""A content key is that of the pixels, whatever file holds them; the cache saves reading and can be trusted."""

import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from steps.preprocess import content
from steps.preprocess.content import Content, of_bytes, of_files, of_pixels, thumbnail

MAX_PIXELS = 1_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def found(pixels: np.ndarray) -> Content:
    return Content(of_pixels(pixels).key, thumbnail(pixels))


def test_the_same_picture_in_another_file_has_the_same_key() -> None:
    image, grey = Image.fromarray(PIXELS), Image.fromarray(PIXELS[:, :, 0])
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Author", "somebody")
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [
        saved(image),
        saved(image, compress_level=0, pnginfo=notes),
        saved(image, "BMP"),
        saved(image.convert("RGBA")),
        saved(image.transpose(Image.Transpose.ROTATE_90), exif=turned),
    ]
    assert {of_bytes(file, MAX_PIXELS) for file in files} == {found(PIXELS)}
    assert of_bytes(saved(grey), MAX_PIXELS) == of_bytes(saved(grey.convert("RGB")), MAX_PIXELS)
    assert of_bytes(saved(grey), MAX_PIXELS) == found(PIXELS[:, :, 0])


def test_another_picture_or_another_shape_has_another_key() -> None:
    other = PIXELS.copy()
    other[3, 3, 0] ^= 1
    keys = {of_pixels(pixels).key for pixels in (PIXELS, other, PIXELS.reshape(30, 20, 3), PIXELS[:, :, ::-1])}
    assert len(keys) == 4


def test_what_is_no_image_has_its_trouble_and_no_key() -> None:
    nothing = of_bytes(b"hello", MAX_PIXELS)
    assert (nothing.key, nothing.trouble and nothing.trouble.rule) == ("", "not-an-image")
    assert of_bytes(saved(Image.fromarray(PIXELS)), 599).trouble is not None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "images/1.png"
    path.parent.mkdir()
    path.write_bytes(saved(Image.fromarray(PIXELS)))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    read = content._read
    monkeypatch.setattr(content, "_read", lambda path, limit: seen.append(path) or read(path, limit))
    monkeypatch.setattr(content, "_RACY_SECONDS", -1)  # files of this very second are trusted
    return seen


def test_a_file_that_did_not_change_is_not_read_again(tmp_path: Path, file: Path, reads: list[Path]) -> None:
    cache = tmp_path / "cache/content.sqlite"
    first = of_files([file], cache, MAX_PIXELS)
    assert of_files([file], cache, MAX_PIXELS) == first == [found(PIXELS)]
    assert reads == [file]
    of_files([file], cache, 599)
    assert reads == [file, file]


def test_a_file_that_changed_under_its_name_size_and_time_is_read_again(
    tmp_path: Path, file: Path, reads: list[Path]
) -> None:
    cache = tmp_path / "content.sqlite"
    before = file.stat()
    of_files([file], cache, MAX_PIXELS)
    data = bytearray(saved(Image.fromarray(PIXELS[::-1].copy()), compress_level=0))
    file.write_bytes(saved(Image.fromarray(PIXELS), compress_level=0))
    of_files([file], cache, MAX_PIXELS)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    of_files([file], cache, MAX_PIXELS)
    time.sleep(0.02)
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert of_files([file], cache, MAX_PIXELS) == [found(PIXELS[::-1].copy())]


def test_what_was_written_just_now_is_not_trusted(
    tmp_path: Path, file: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_RACY_SECONDS", 3)
    cache = tmp_path / "content.sqlite"
    of_files([file], cache, MAX_PIXELS)
    of_files([file], cache, MAX_PIXELS)
    assert reads == [file, file]


@pytest.mark.parametrize("damage", ["removed", "garbage", "empty"])
def test_a_cache_that_is_gone_or_damaged_costs_time_alone(
    tmp_path: Path, file: Path, reads: list[Path], damage: str
) -> None:
    cache = tmp_path / "content.sqlite"
    first = of_files([file], cache, MAX_PIXELS)
    if damage == "removed":
        cache.unlink()
    else:
        cache.write_bytes(b"x" * 5000 if damage == "garbage" else b"")
    assert of_files([file], cache, MAX_PIXELS) == of_files([file], cache, MAX_PIXELS) == first
    assert reads == [file, file]


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path, file: Path) -> None:
    gone = file.with_name("gone.png")
    [there, missing] = of_files([file, gone], tmp_path / "content.sqlite", MAX_PIXELS)
    assert (there.key != "", missing.trouble is not None) == (True, True)
