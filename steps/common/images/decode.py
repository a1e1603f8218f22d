"""Decodes the bytes of an image file into the pixels that the network takes; reads and writes no files.

Imports nothing of this project, only numpy and Pillow: a copy travels in the model archive, so that a served image is
decoded exactly as a training image was.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

Rule = Literal["empty", "not-an-image", "truncated", "too-many-pixels", "too-slow-to-decode"]

# Pillow's other formats include some that start programs (EPS) or decode more than their header says (ICO).
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
# Pillow imports all of its plugins for a format that it does not know yet; these two it does not import itself.
_PLUGINS = (TiffImagePlugin, WebPImagePlugin)
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0

# The size in the header is held against our own limit below; Pillow's fixed one would warn on the error stream.
Image.MAX_IMAGE_PIXELS = None
# One for each tag of a damaged TIFF would fill a log.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

# Limits of time, beside that of pixels: with all of them a file of 4 MiB and 20 million pixels takes less than 2 s.
# Pillow reads chunks, segments, blocks, frames and strips in Python, a few reads each: so many reads, and one more for
# so many bytes. Ordinary files need a hundredth.
_MAX_READS, _BYTES_A_READ = 20_000, 20
# Bytes that are read as many times, as the values of a TIFF's tags may all be the whole file.
_MAX_PASSES = 4
# Each scan of a JPEG goes over all pixels, 0.8 ms a million. Encoders write up to 12; a file can hold a second image.
_MAX_SCANS = 32
# The tiles of a TIFF may be larger than the image; of a small image they may have a million pixels.
_MAX_TILES, _SMALL = 4, 1 << 20
# What texts in a PNG unpack to, in all; Pillow's own limit is 64 MiB for each file of a request.
PngImagePlugin.MAX_TEXT_MEMORY = 4 << 20
# Samples of what Pillow decodes in Python: run-length encoded BMP, and PPM as text or with few greys; 0.4 s a million.
_MAX_PYTHON_SAMPLES = 1_000_000
# As much as a JPEG's segment holds; a directory of tags takes memory many times its size.
_MAX_EXIF_BYTES = 1 << 16
_EXIF = b"Exif\0\0"
# The largest side of a JPEG and a GIF: each row takes memory of its own, and a column of 20 million takes 3 s.
_MAX_SIDE = 65_535
_STRIPS, _TILES = (273, 279), (324, 325)  # TIFF's tags of their places and their sizes in bytes
_TILE_SIZE, _ROWS = (322, 323), 278


class BadImage(ValueError):
    """The bytes are no image that can be used: `rule` is the broken rule, the message adds the value and a remedy."""

    def __init__(self, rule: Rule, found: str) -> None:
        super().__init__(f"{rule}: {found}")
        self.rule = rule


def decode(data: bytes, *, size: int, channels: int, max_pixels: int) -> NDArray[np.uint8]:
    """The pixels of an image file.

    It is the first frame of an animation, turned upright as its EXIF says, with transparent pixels on white and deeper
    greys scaled to 8 bits. An image that already has the size is not resampled. BadImage if the bytes are no usable
    image.

    Args:
        data: The file's bytes.
        size: The width and height to bring it to, in pixels.
        channels: 1 for grey, 3 for RGB.
        max_pixels: The largest image to take, by its header: a larger one is not decoded.

    Returns:
        uint8 [size, size, channels].
    """
    return pixels(read_header(data, max_pixels), size=size, channels=channels)


def read_header(data: bytes, max_pixels: int) -> Image.Image:
    """The image with its header read and its pixels not.

    Args:
        data: The file's bytes.
        max_pixels: The largest image to take.

    Returns:
        The image, for `pixels`.

    Raises:
        BadImage: The bytes are no image, or one of more pixels, or its pixels are floating-point numbers.
    """
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(
            "too-many-pixels",
            f"{width} x {height} pixels are more than the {max_pixels} allowed; send a smaller image.",
        )
    with _damage_is_the_files(image):  # its tags can hold anything
        _check_time(image, data)
    if image.mode == "F":
        raise BadImage("not-an-image", "pixels are floating-point numbers; save 8 or 16 bits a channel.")
    return image


def pixels(image: Image.Image, *, size: int, channels: int) -> NDArray[np.uint8]:
    """The pixels of an image whose header was read.

    Args:
        image: What `read_header` gave.
        size: The width and height to bring it to, in pixels.
        channels: 1 for grey, 3 for RGB.

    Returns:
        uint8 [size, size, channels].

    Raises:
        BadImage: The pixels cannot be decoded.
    """
    mode = "L" if channels == 1 else "RGB"
    with _damage_is_the_files(image):
        # A JPEG many times larger than needed is decoded at a fraction of its size, at a fraction of the time.
        image.draft(mode, (2 * size, 2 * size))
    return scaled(upright(image, mode), size=size, channels=channels)


def scaled(image: Image.Image, *, size: int, channels: int) -> NDArray[np.uint8]:
    """The pixels uint8 [size, size, channels] of an image of mode L for one channel, RGB for three."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(image, dtype=np.uint8).reshape(size, size, channels)


def upright(image: Image.Image, mode: str) -> Image.Image:
    """The image at its own size in 8 bits: turned as its EXIF says, transparent pixels on white.

    Args:
        image: An image whose header was read.
        mode: L for grey, RGB for colour.

    Returns:
        An image of that mode. Grey values deeper than 8 bits are scaled by their own range: that is 0 to 2^b - 1, with
        the least b of 8, 10, 12 and so on that holds the largest value, since cameras write 12 bits into files of 16.

    Raises:
        BadImage: The pixels cannot be read.
    """
    with _damage_is_the_files(image):
        image.load()
        turn = _TURNS.get(_orientation(image))
        loaded = image.transpose(turn) if turn is not None else image
    if loaded.mode.startswith("I"):  # which Pillow itself would clip at 255
        grey = _eight_bits(np.asarray(loaded).astype(np.int64))
        loaded = Image.fromarray(255 - grey if _white_is_zero(image) else grey)
    with _damage_is_the_files(image):
        return _plain(loaded, mode)


class _Metered(BytesIO):
    """The bytes of a file, of which so much is read and no more; BadImage past that."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads = _MAX_READS + len(data) // _BYTES_A_READ
        self._bytes = _MAX_PASSES * max(len(data), _MAX_EXIF_BYTES)
        self._once: set[bytes] = set()

    def allow(self, reads: int) -> None:
        """Allow so many more reads: a decoder in Python takes one or two for a sample."""
        self._reads += reads

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self._reads -= 1
        self._bytes -= len(found)
        if self._reads < 0 or self._bytes < 0:
            raise _too_slow("the file has too many parts, or parts that overlap")
        # The segments of JPEG's EXIF, which Pillow joins, and PNG's colour profile, which it unpacks each time.
        part = found[:6] if found.startswith(_EXIF) else found[4:8] if len(found) == 8 else b""
        if part in (_EXIF, b"iCCP"):
            if part in self._once:
                raise _too_slow("the file has EXIF or colour profiles more than once")
            self._once.add(part)
        return found


def _too_slow(found: str) -> BadImage:
    return BadImage("too-slow-to-decode", f"{found}; save it anew, as PNG for example.")


def _check_time(image: Image.Image, data: bytes) -> None:
    """Hold what the header says against the limits of time; BadImage past one."""
    pixels = image.width * image.height
    if max(image.size) > _MAX_SIDE:
        raise _too_slow(f"{image.width} x {image.height} pixels have a side of more than {_MAX_SIDE}")
    tiles, samples = getattr(image, "tile", []), pixels * len(image.getbands())
    if tiles and tiles[0][0] in Image.DECODERS:
        if samples <= _MAX_PYTHON_SAMPLES:
            return image.fp.allow(2 * samples)  # type: ignore[attr-defined, no-any-return]  # it is a _Metered
        raise _too_slow(f"{pixels} pixels in a rare encoding of {image.format} are too many")
    scanned = data.count(b"\xff\xda") * pixels if image.format in ("JPEG", "MPO") else 0
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        scanned = _scanned(image.tag_v2, data, max(_MAX_TILES * pixels, _SMALL))
    if scanned > max(_MAX_SCANS * pixels, _SMALL):
        raise _too_slow(f"{scanned // pixels} scans of {pixels} pixels are too many")


def _scanned(tags: TiffImagePlugin.ImageFileDirectory_v2, data: bytes, most: int) -> int:
    """The pixels that the scans of a TIFF's strips or tiles go over, where these are JPEGs."""
    places, sizes = (tags.get(tag, ()) for tag in (_TILES if _TILES[0] in tags else _STRIPS))
    width, height = (tags[tag] for tag in (_TILE_SIZE if _TILES[0] in tags else (256, 257)))
    height = height if _TILES[0] in tags else min(height, tags.get(_ROWS, height))
    ends = [min(at + size, len(data)) for at, size in zip(places, sizes, strict=False)]
    if sum(max(0, end - at) for at, end in zip(places, ends, strict=False)) > len(data):
        raise _too_slow("the strips of the TIFF overlap")
    if _TILES[0] in tags and len(places) * width * height > most:
        raise _too_slow(f"{len(places)} tiles of {width} x {height} pixels are too many for the image")
    if tags.get(259) not in (6, 7):  # its compression: JPEG
        return 0
    scans = sum(max(1, data.count(b"\xff\xda", at, end)) for at, end in zip(places, ends, strict=False))
    return int(scans * width * height)


def _orientation(image: Image.Image) -> int:
    """How EXIF says that the image is turned, 1 if not at all, or if its EXIF is larger than a camera's."""
    exif, text = image.info.get("exif", b""), image.info.get("Raw profile type exif", "")
    if len(exif) > _MAX_EXIF_BYTES or len(text) > 3 * _MAX_EXIF_BYTES:
        return 1
    return int(image.getexif().get(_ORIENTATION, 1))


def _open(data: bytes) -> Image.Image:
    if not data:
        raise BadImage("empty", "0 bytes; send an image file.")
    try:
        return Image.open(_Metered(data), formats=FORMATS)
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # as below
        if bytes(data[:4]).startswith(_SIGNATURES):
            raise BadImage(
                "truncated", f"{len(data)} bytes end before the image's header does; send the whole file."
            ) from error
        raise BadImage(
            "not-an-image",
            f"{len(data)} bytes that start with {bytes(data[:8])!r}; send one of {', '.join(FORMATS)}.",
        ) from error


@contextmanager
def _damage_is_the_files(image: Image.Image) -> Iterator[None]:
    """Around calls of Pillow alone, whose decoders raise nearly anything for damaged data."""
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except Exception as error:
        raise BadImage(
            "truncated",
            f"the file starts as {image.format} but its pixels cannot be read ({error}); send the whole file.",
        ) from error


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """The image of 8 bits without transparency, as mode L or RGB."""
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(grey: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Deep grey values, scaled to 0 to 255 by their own range; negative ones become 0."""
    grey = np.clip(grey, 0, None)
    bits = max(8, int(grey.max(initial=0)).bit_length())
    top = (1 << (bits + bits % 2)) - 1
    return ((grey * 255 + top // 2) // top).astype(np.uint8)


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF's greys are inverted; Pillow turns those of 8 bits itself."""
    tags = getattr(image, "tag_v2", {})
    return bool(image.mode.startswith("I") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)
