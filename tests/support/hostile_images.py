"""Unusual image files: decompression bombs, and valid images in rare formats."""

import gzip
import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from tests.support.model_archive import MAX_PIXELS, picture


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, *chunks: bytes, bits: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


ZEROS = zlib.compress(bytes(64 << 20), 9)  # 64 MiB in 64 KiB
PAGE = zlib.compress(bytes(900_000))
PIXELS = chunk(b"IDAT", zlib.compress(bytes(72)))
SIDE = int(MAX_PIXELS**0.5)
GIF = (
    b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6) + b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0)
)
BOMBS = [
    _png(8, 8, chunk(b"zTXt", b"a\0\0" + ZEROS), PIXELS),
    _png(8, 8, chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS), PIXELS),
    _png(8, 8, chunk(b"iCCP", b"a\0\0" + ZEROS), PIXELS),
    _png(8, 8, *[chunk(b"zTXt", b"%d\0\0" % n + PAGE) for n in range(200)], PIXELS),
    _png(8, 8, chunk(b"IDAT", ZEROS)),
    _png(SIDE, SIDE, chunk(b"IDAT", ZEROS), bits=16),
    _png(50_000, 50_000, chunk(b"IDAT", ZEROS)),
    _png(2**31 - 1, 2**31 - 1, PIXELS),
    GIF + b"\x02\x02\x4c\x01\x00;",
    b"BM" + struct.pack("<IHHIIiiHHIIiiII", 90, 0, 0, 54, 40, 2**30, -(2**30), 1, 24, 0, 0, 0, 0, 0, 0),
    b"P5 99999 99999 255\n",
    b"P5 100 100 65535\n" + bytes(30),
    b"II*\0\x08\0\0\0"
    + struct.pack("<H", 2)
    + struct.pack("<HHII", 256, 4, 1, 2**31)
    + struct.pack("<HHII", 257, 4, 1, 2**31)
    + bytes(4),
    b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 2**30, 8) + struct.pack("<I", 8),
    gzip.compress(bytes(1 << 20), mtime=0),
]


def good_but_odd() -> dict[str, tuple[bytes, str]]:
    """Valid images in rare formats, and the label that each must get."""
    grey = picture(2)
    colour = Image.fromarray(grey).convert("RGB")
    files: dict[str, bytes] = {}

    def save(name: str, image: Image.Image, kind: str, **options: Any) -> None:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files[name] = file.getvalue()

    large = Image.fromarray(picture(2, size=96))
    save("CMYK", large.convert("RGB").convert("CMYK"), "JPEG", quality=95)
    save("16 bits", Image.fromarray(grey.astype(np.uint16) * 257), "PNG")
    save("1 bit", Image.fromarray(grey > 100), "PNG")
    save("palette", colour.convert("P"), "PNG")
    save("transparent", Image.merge("LA", [Image.fromarray(grey), Image.new("L", (8, 8), 255)]), "PNG")
    others = [Image.fromarray(picture(0)).convert("RGB") for _ in range(1000)]
    save("animated GIF", colour, "GIF", save_all=True, append_images=others)
    save("animated PNG", colour, "PNG", save_all=True, append_images=others[:20])
    save("animated WebP", colour, "WEBP", save_all=True, append_images=others[:20], lossless=True)
    save("TIFF of pages", colour, "TIFF", save_all=True, append_images=others[:20])
    save("progressive", large, "JPEG", progressive=True)
    return {name: (data, "lower left") for name, data in files.items()}
