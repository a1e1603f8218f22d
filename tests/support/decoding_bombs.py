"""Image files of at most 4 MiB and 20 million pixels that cost a decoder as much as their format allows."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.support.hostile_images import chunk

MAX_BYTES = 4 << 20
MAX_PIXELS = 20_000_000
WIDTH, HEIGHT = 5_000, 4_000


def saved(pixels: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    """An image file."""
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **options)
    return file.getvalue()


def filled(start: bytes, piece: bytes, end: bytes = b"") -> bytes:
    """A file of the largest size: a start, a piece as often as it fits, an end."""
    return start + piece * ((MAX_BYTES - len(start) - len(end)) // len(piece)) + end


def flat(channels: int = 1, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """An image of one grey."""
    return Image.new({1: "L", 3: "RGB", 4: "RGBA"}[channels], (width, height), 90 if channels == 1 else None)


def noise(width: int, height: int, channels: int) -> NDArray[np.uint8]:
    """An image of random pixels."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def png(header: tuple[int, ...], *chunks: bytes) -> bytes:
    """A PNG of these chunks; `header` is width, height, bits, colour type and interlacing."""
    width, height, bits, colour, interlacing = header
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlacing))
    return b"\x89PNG\r\n\x1a\n" + start + b"".join(chunks)


END = chunk(b"IEND", b"")
PIXEL = chunk(b"IDAT", zlib.compress(bytes(2)))
SMALL = (1, 1, 8, 0, 0)


def zeros(count: int) -> bytes:
    """An IDAT chunk of so many zeros."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(min(1 << 24, count - at))) for at in range(0, count, 1 << 24)]
    return chunk(b"IDAT", b"".join(pieces) + packer.flush())


def scans(progressive: bytes, count: int | None) -> bytes:
    """A progressive JPEG whose last scan stands there many times more."""
    last = progressive.rindex(b"\xff\xda")
    tables = progressive.rfind(b"\xff\xc4", 0, last)
    start = tables if tables >= 0 and last - tables < 600 else last
    scan, end = progressive[start:-2], progressive[-2:]
    return filled(progressive[:-2], scan, end) if count is None else progressive[:-2] + scan * count + end


def ifd(tags: list[tuple[int, int, int, int]]) -> bytes:
    """A TIFF file whose directory, of tag, type, count and value each, comes first."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def many_values(size: int) -> bytes:
    """A TIFF directory of as many tags as fit, each of which takes most of the file as its value."""
    tags = min(60_000, size // 24)
    start = ifd([(number + 1000, 7, size // 2, 16) for number in range(tags)])
    return start + bytes(max(0, size - len(start)))


def many_strips() -> bytes:
    """A TIFF of one column, whose rows are strips that all lie in one place."""
    count = 300_000
    places = 8 + 2 + 12 * 9 + 4
    tags = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, count, places), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, count, places + 4 * count)]
    return ifd(tags) + struct.pack("<I", 8) * count + struct.pack("<I", 1) * count


def huge_tiles(side: int = 30_000) -> bytes:
    """A TIFF of 16 x 16 pixels in one large tile."""
    packed = zlib.compress(bytes(min(side * side, 100 << 20)), 9)
    at = 8 + 2 + 12 * 10 + 4
    tags = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    tags += [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, at), (325, 4, 1, len(packed))]
    return ifd(tags) + packed


def webp_with(exif: bytes) -> bytes:
    """A WebP file with this EXIF."""
    return saved(flat(3, 8, 8), "WEBP", exif=b"Exif\0\0" + exif)


def exif_in_parts(exif: bytes) -> bytes:
    """A JPEG with EXIF that Pillow joins from as many segments as it needs."""
    pieces = [b"Exif\0\0" + exif[at : at + 65_500] for at in range(0, len(exif), 65_500)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)
    plain = saved(flat(1, 8, 8), "JPEG")
    return b"\xff\xd8" + segments + plain[plain.index(b"\xff\xdb") :]


def bmp_rle(width: int, height: int, data: bytes, kind: int = 1) -> bytes:
    """A BMP of 8 bits, run-length encoded."""
    palette = bytes(1024)
    at = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8 if kind == 1 else 4, kind, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", at + len(data), 0, 0, at) + header + palette + data


def gif(*blocks: bytes, width: int = 1, height: int = 1) -> bytes:
    """A GIF of these blocks before its one pixel."""
    start = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    pixel = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00;"
    return start + b"".join(blocks) + pixel


def _large_of_noise(kind: str, channels: int, **options: Any) -> bytes:
    """Noise of the largest size whose file fits, by halves."""
    width, height = WIDTH, HEIGHT
    while len(data := saved(noise(width, height, channels), kind, **options)) > MAX_BYTES:
        width, height = int(width * 0.75), int(height * 0.75)
    return data


# Bombs by name; a function makes each, for some take a second to make.
BOMBS: dict[str, Callable[[], bytes]] = {
    "JPEG, scans of 20 MP": lambda: scans(saved(flat(), "JPEG", progressive=True), None),
    "JPEG, scans of 20 MP, colour": lambda: scans(saved(flat(3), "JPEG", progressive=True), None),
    "JPEG, 300 scans in 150 KB": lambda: scans(saved(flat(), "JPEG", progressive=True), 300),
    "JPEG, scans of 1 MP": lambda: scans(saved(flat(3, 1000, 1000), "JPEG", progressive=True), None),
    "JPEG, scans of 64 pixels": lambda: scans(saved(flat(1, 8, 8), "JPEG", progressive=True), None),
    "JPEG, progressive of 20 MP": lambda: saved(flat(3), "JPEG", progressive=True),
    "JPEG, noise": lambda: _large_of_noise("JPEG", 3, progressive=True, quality=40),
    "JPEG, segments": lambda: filled(b"\xff\xd8", b"\xff\xe1\0\x02", saved(flat(1, 8, 8), "JPEG")[2:]),
    "JPEG, comments": lambda: filled(b"\xff\xd8", b"\xff\xfe\0\x03a", saved(flat(1, 8, 8), "JPEG")[2:]),
    "JPEG, fill bytes": lambda: filled(b"\xff\xd8", b"\xff", saved(flat(1, 8, 8), "JPEG")[2:]),
    "JPEG, EXIF in parts": lambda: exif_in_parts(many_values(MAX_BYTES - 3_000)),
    "JPEG, EXIF": lambda: exif_in_parts(many_values(65_500)),
    "JPEG, profile in parts": lambda: filled(
        b"\xff\xd8",
        b"\xff\xe2" + struct.pack(">H", 18) + b"ICC_PROFILE\0\1\1aa",
        saved(flat(1, 8, 8), "JPEG")[2:],
    ),
    "JPEG, Photoshop blocks": lambda: filled(
        b"\xff\xd8",
        b"\xff\xed" + struct.pack(">H", 65_536 - 6) + b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5459 + bytes(6),
        saved(flat(1, 8, 8), "JPEG")[2:],
    ),
    "PNG, chunks": lambda: filled(png(SMALL), chunk(b"abCd", b""), PIXEL + END),
    "PNG, chunks after the pixels": lambda: filled(png(SMALL, PIXEL), chunk(b"abCd", b""), END),
    "PNG, empty IDAT": lambda: filled(png(SMALL), chunk(b"IDAT", b""), PIXEL + END),
    "PNG, zTXt": lambda: filled(png(SMALL), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000), 9)), PIXEL + END),
    "PNG, zTXt of too much": lambda: png(
        SMALL, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 30), 9)), PIXEL, END
    ),
    "PNG, iCCP": lambda: filled(png(SMALL), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(900_000), 9)), PIXEL + END),
    "PNG, tEXt": lambda: filled(png(SMALL), chunk(b"tEXt", b"a\0b"), PIXEL + END),
    "PNG, EXIF": lambda: png(SMALL, chunk(b"eXIf", many_values(MAX_BYTES - 200)), PIXEL, END),
    "PNG, EXIF as text": lambda: png(
        SMALL,
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n2000000\n" + many_values(2_000_000).hex().encode()),
        PIXEL,
        END,
    ),
    "PNG, frames": lambda: filled(
        png(SMALL, chunk(b"acTL", struct.pack(">II", 90_000, 0)), PIXEL),
        chunk(b"fcTL", struct.pack(">IIIIIHHBB", 1, 1, 1, 0, 0, 1, 1, 0, 0)),
        END,
    ),
    "PNG, RGBA of 16 bits": lambda: png((WIDTH, HEIGHT, 16, 6, 0), zeros((8 * WIDTH + 1) * HEIGHT), END),
    "PNG, interlaced RGBA of 16 bits": lambda: png((WIDTH, HEIGHT, 16, 6, 1), zeros((8 * WIDTH + 99) * HEIGHT), END),
    "PNG, grey of 16 bits": lambda: png((WIDTH, HEIGHT, 16, 0, 0), zeros((2 * WIDTH + 1) * HEIGHT), END),
    "PNG, one column of 20 MP": lambda: png((1, MAX_PIXELS, 8, 6, 1), zeros(8 * MAX_PIXELS), END),
    "PNG, palette": lambda: saved(flat().convert("P"), "PNG", transparency=bytes(200)),
    "PNG, noise": lambda: _large_of_noise("PNG", 4),
    "GIF, comments": lambda: filled(gif()[:19], b"!\xfe\x01a\0", gif()[19:]),
    "GIF, one comment": lambda: filled(gif()[:19] + b"!\xfe", b"\xff" + bytes(255), b"\0" + gif()[19:]),
    "GIF, comments of one block": lambda: filled(gif()[:19], b"!\xfe\xff" + b"a" * 255 + b"\0", gif()[19:]),
    "GIF, unknown bytes": lambda: filled(gif()[:19], b"?", gif()[19:]),
    "GIF, frames": lambda: filled(gif()[:19], gif()[19:-1], b";"),
    "GIF, 20 MP": lambda: saved(flat(), "GIF"),
    "WebP, lossless of 20 MP": lambda: saved(flat(4), "WEBP", lossless=True),
    "WebP, 20 MP": lambda: saved(flat(3), "WEBP"),
    "WebP, noise": lambda: _large_of_noise("WEBP", 4, lossless=True),
    "WebP, lossy noise": lambda: _large_of_noise("WEBP", 3, quality=30, method=0),
    "WebP, frames": lambda: saved(flat(4, 4, 4), "WEBP", save_all=True, append_images=[flat(3, 4, 4)] * 2_000),
    "WebP, EXIF": lambda: webp_with(many_values(MAX_BYTES - 500)),
    "TIFF, values": lambda: many_values(MAX_BYTES),
    "TIFF, strips": many_strips,
    "TIFF, huge tiles": huge_tiles,
    **{
        f"TIFF, {name}": lambda name=name: saved(flat(3), "TIFF", compression=name)  # type: ignore[misc]
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd")
    },
    "TIFF, fax": lambda: saved(Image.new("1", (WIDTH, HEIGHT), 1), "TIFF", compression="group4"),
    "TIFF, 16 bits": lambda: saved(np.zeros((HEIGHT, WIDTH), np.uint16), "TIFF", compression="tiff_adobe_deflate"),
    "BMP, runs": lambda: bmp_rle(1_000, 1_000, filled(bytes(2_000), b"\x01\x07")[2_000:]),
    "BMP, runs of 20 MP": lambda: bmp_rle(5_000, 4_000, b"\xff\x07" * 80_000),
    "BMP, jumps": lambda: bmp_rle(1_000, 1_000, filled(bytes(2_000), b"\0\2\0\0")[2_000:]),
    "PPM, text": lambda: filled(b"P2\n1000 1000\n255\n", b"1   "),
    "PPM, text of 2 MP": lambda: filled(b"P2\n1400 1400\n255\n", b"1 "),
    "PPM, text of bits": lambda: filled(b"P1\n1000 1000\n", b"1"),
    "PPM, few greys": lambda: b"P5\n1000 1000\n7\n" + b"\x07" * 1_000_000,
    "PPM, few colours": lambda: b"P6\n570 570\n7\n" + b"\x07" * 974_700,
    "PPM, few greys of 4 MP": lambda: b"P5\n2000 2000\n7\n" + b"\x07" * 4_000_000,
    "PPM, comments": lambda: filled(b"P5\n", b"#\n", b"1 1\n255\n0"),
    "PPM, a long token": lambda: filled(b"P2\n1 1\n255\n", b"0"),
}
