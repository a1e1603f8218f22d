"""A content key is that of the pixels, whatever file holds them; the cache saves reading and can be trusted."""

import hashlib
import io
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from steps.common.errors import StepError
from steps.common.images.content_key import key_of_pixels, pixels_of_file
from steps.common.images.decode import BadImage, decode
from steps.common.images.facts import packed
from steps.preprocess import reading, worker
from steps.preprocess.cache import Cache
from steps.preprocess.content import Keeper, contents, look
from steps.preprocess.render import SIDE, of_array, of_file, thumbnails
from steps.preprocess.sources import scan
from steps.preprocess.sources.source import Files, Part
from steps.preprocess.worker import Format
from tests.support.killing import killed_after

MAX_PIXELS = 1_000_000
PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def what(file: bytes) -> tuple[str, bytes]:
    """Key and thumbnail of a file."""
    found = of_file(file, size=8, channels=3, max_pixels=MAX_PIXELS)
    assert found.thumbnail is not None
    return found.key, np.broadcast_to(found.thumbnail, (SIDE, SIDE, 3)).tobytes()


def found(pixels: np.ndarray) -> tuple[str, bytes]:
    rendered = of_array(pixels, size=8, channels=3)
    assert rendered.thumbnail is not None
    return rendered.key, np.broadcast_to(rendered.thumbnail, (SIDE, SIDE, 3)).tobytes()


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
    assert {what(file) for file in files} == {found(PIXELS)}
    assert what(saved(grey)) == what(saved(grey.convert("RGB")))
    assert what(saved(grey)) == found(PIXELS[:, :, 0])


@pytest.mark.parametrize("side", [SIDE, 2 * SIDE, 3 * SIDE, 4 * SIDE])
@pytest.mark.parametrize("channels", [1, 3])
def test_thumbnails_of_many_images_are_those_of_pillow(side: int, channels: int) -> None:
    images = np.random.default_rng(side).integers(0, 256, (200, side, side, channels), dtype=np.uint8)
    for image, small in zip(images, thumbnails(images), strict=True):
        plain = Image.fromarray(image[:, :, 0] if channels == 1 else image)
        wanted = np.asarray(plain.resize((SIDE, SIDE), Image.Resampling.BOX)).reshape(SIDE, SIDE, channels)
        assert (small == wanted).all()


def test_another_picture_or_another_shape_has_another_key() -> None:
    other = PIXELS.copy()
    other[3, 3, 0] ^= 1
    keys = {key_of_pixels(pixels) for pixels in (PIXELS, other, PIXELS.reshape(30, 20, 3), PIXELS[:, :, ::-1])}
    assert len(keys) == 4


def test_what_is_no_image_has_its_trouble_and_no_key() -> None:
    with pytest.raises(BadImage, match="^not-an-image"):
        what(b"hello")
    with pytest.raises(BadImage, match="^too-many-pixels"):
        of_file(saved(Image.fromarray(PIXELS)), size=8, channels=3, max_pixels=599)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images with one file."""
    path = tmp_path / "images/train/a/1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(saved(Image.fromarray(PIXELS)))
    return tmp_path / "images"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read; those of this very second are trusted."""
    seen: list[str] = []
    read = worker.of_file

    def counted(data: bytes, **how: Any) -> Any:
        seen.append("read")
        return read(data, **how)

    monkeypatch.setattr(worker, "of_file", counted)
    monkeypatch.setattr(scan, "RACY_SECONDS", -1)
    return seen


def keys_of(root: Path, max_pixels: int = MAX_PIXELS) -> list[str]:
    """The keys of the training images, with the cache beside them."""
    since = scan.now_on(root)
    part = scan.scan(root, print)["train"]
    files = Files(root, bytes(part.stats), part.newest, since)
    keeper = Keeper(Cache(root.parent / "cache/images.sqlite"))
    one = Part(part.labels, part.names, part.read, files)
    how = Format(8, 3, max_pixels)
    found = contents(one, look(one, how, keeper), how, keeper, lambda _: None)
    keeper.flush()
    return found.keys


def key(pixels: np.ndarray = PIXELS) -> str:
    return key_of_pixels(pixels)


def test_a_file_that_did_not_change_is_not_read_again(root: Path, reads: list[str]) -> None:
    assert keys_of(root) == keys_of(root) == [key()]
    assert len(reads) == 1
    assert keys_of(root, 599) == [""]
    assert keys_of(root) == [key()]
    assert len(reads) == 2


def test_a_file_that_changed_under_its_name_size_and_time_is_read_again(root: Path, reads: list[str]) -> None:
    file = root / "train/a/1.png"
    file.write_bytes(saved(Image.fromarray(PIXELS), compress_level=0))
    before = file.stat()
    assert keys_of(root) == [key()]
    time.sleep(0.02)
    file.write_bytes(saved(Image.fromarray(PIXELS[::-1].copy()), compress_level=0))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert keys_of(root) == [key(PIXELS[::-1].copy())]


def test_what_was_written_just_now_is_not_trusted(
    root: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "RACY_SECONDS", 3)
    assert keys_of(root) == keys_of(root) == [key()]
    assert len(reads) == 2


@pytest.mark.parametrize(("age", "trusted"), [(2.9, False), (3.1, True), (-60, False)])
def test_stamps_of_whole_seconds_and_clocks_that_are_ahead_are_thought_of(age: float, trusted: bool) -> None:
    now = 1_700_000_000 * 10**9
    assert scan.is_settled(now - int(age * 10**9), now) == trusted


def test_time_is_that_of_the_volume(tmp_path: Path) -> None:
    file = tmp_path / "now"
    before = scan.now_on(tmp_path)
    file.write_bytes(b"")
    assert before <= file.stat().st_mtime_ns + 10**7


@pytest.mark.parametrize("damage", ["removed", "garbage", "empty"])
def test_a_cache_that_is_gone_or_damaged_costs_time_alone(root: Path, reads: list[str], damage: str) -> None:
    cache = root.parent / "cache/images.sqlite"
    assert keys_of(root) == [key()]
    if damage == "removed":
        cache.unlink()
    else:
        cache.write_bytes(b"x" * 5000 if damage == "garbage" else b"")
    assert keys_of(root) == keys_of(root) == [key()]
    assert len(reads) == 2


def test_a_cache_killed_at_any_moment_is_read_again(root: Path, reads: list[str]) -> None:
    for number in range(1, 9):
        (root / f"train/a/{number}0.png").write_bytes(saved(Image.fromarray(np.roll(PIXELS, number))))
        killed_after(number, lambda: keys_of(root))
        assert set(keys_of(root)) == {key(np.roll(PIXELS, n)) for n in range(number + 1)}


@pytest.mark.parametrize("size", [20, 28])
@pytest.mark.parametrize("order", ["grey first", "colour first"])
def test_thumbnails_of_grey_and_colour_are_kept_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, order: str
) -> None:
    monkeypatch.setattr(reading, "_MOST", 2)
    grey = [Image.fromarray(np.full((28, 28), level, np.uint8)) for level in (7, 90, 200)]
    colour = [Image.new("RGB", (28, 28), (level, 5, 9)) for level in (1, 60, 120)]
    images = [*grey, *colour] if order == "grey first" else [*colour, *grey]
    for number, image in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(saved(image))
    names = [f"{number}.png" for number in range(len(images))]
    cache = Cache(tmp_path / "cache.sqlite")
    keeper = Keeper(cache)
    for _, found in reading.pieces(tmp_path, names, Format(size, 3, MAX_PIXELS)):
        keeper.take(found)
    keeper.flush()
    kept, known = cache.thumbnails(packed([key_of_pixels(np.asarray(image)) for image in images]))
    wanted = [np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)).ravel() for image in images]
    assert known.all()
    assert (kept == np.stack(wanted)).all()


def test_a_file_that_cannot_be_read_says_so(root: Path) -> None:
    found = worker.of_files(root, ["train/a/1.png", "train/a/gone.png"], Format(8, 3, MAX_PIXELS))
    assert found.keys == [key()]
    assert "cannot be read" in str(found.troubles[1])


def test_processes_find_what_this_one_finds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    for number in range(40):
        image = Image.fromarray(np.roll(PIXELS, number))
        (root / f"train/a/é {number}.png").write_bytes(saved(image) if number % 7 else b"no image")
        names.append(f"train/a/é {number}.png")
    how = Format(8, 1, MAX_PIXELS)
    alone = worker.of_files(root, names, how)
    monkeypatch.setattr(reading, "_FEW", 5)
    monkeypatch.setattr(reading, "_MOST", 9)
    monkeypatch.setattr(reading, "_cores", lambda: 3)
    several = list(reading.pieces(root, names, how))
    assert [name for some, _ in several for name in some] == names
    assert [key for _, found in several for key in found.keys] == alone.keys
    for field in ("thumbnails", "facts", "pixels"):
        assert (np.concatenate([getattr(found, field) for _, found in several]) == getattr(alone, field)).all()
    assert sum(len(found.troubles) for _, found in several) == len(alone.troubles) == 6
    assert str(several[0][1].troubles[0]) == str(alone.troubles[0])


def test_a_worker_that_ends_fails_the_run_in_one_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FEW", 1)
    monkeypatch.setattr(reading, "_cores", lambda: 2)
    monkeypatch.setattr(worker, "__name__", "steps.no_such_module")
    with pytest.raises(StepError, match="a process that decodes images ended"):
        list(reading.pieces(root, ["train/a/1.png"] * 2, Format(8, 1, MAX_PIXELS)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 20, 30])
def test_decoded_once_the_pixels_are_those_that_the_server_sees(channels: int, size: int) -> None:
    large = Image.fromarray(np.kron(PIXELS, np.ones((6, 6, 1), np.uint8)))
    turned = Image.Exif()
    turned[0x0112] = 6
    grey16 = Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70)
    files = [saved(large), saved(large, "JPEG"), saved(large.convert("L"), "JPEG"), saved(large, "JPEG", exif=turned)]
    files += [saved(large.convert(mode)) for mode in ("P", "RGBA", "LA", "1")] + [saved(grey16), saved(large, "GIF")]
    files += [saved(large.convert("CMYK"), "JPEG"), saved(large, "TIFF"), saved(large, "WEBP")]
    for file in files:
        found = of_file(file, size=size, channels=channels, max_pixels=MAX_PIXELS)
        assert (found.pixels == decode(file, size=size, channels=channels, max_pixels=MAX_PIXELS)).all()
        assert found.key == key_of_pixels(pixels_of_file(file, MAX_PIXELS))


@pytest.mark.parametrize("channels", [1, 3])
def test_keys_of_many_small_images_are_those_of_each(tmp_path: Path, channels: int) -> None:
    images = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (28, 28, 3), np.uint8)) for n in range(3)]
    images += [image.convert("L") for image in images] + [images[0].resize((30, 30)), images[1].convert("RGBA")]
    files = [saved(image) for image in images]
    files.insert(2, b"no image")
    for number, file in enumerate(files):
        (tmp_path / f"{number}.png").write_bytes(file)
    found = worker.of_files(
        tmp_path, [f"{number}.png" for number in range(len(files))], Format(28, channels, MAX_PIXELS)
    )
    files.pop(2)
    assert found.keys == [key_of_pixels(pixels_of_file(file, MAX_PIXELS)) for file in files]
    pixels = [np.asarray(image.convert("RGB"), np.uint8) for image in images]
    texts = [hashlib.sha256(f"{p.shape[1]} x {p.shape[0]}:".encode() + p.tobytes()).hexdigest()[:32] for p in pixels]
    assert found.keys == texts
    assert list(found.troubles) == [2]
