"""Decoding any file of 4 MiB ends within two seconds of CPU time, and within memory; ordinary files pass the limits."""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from contract.paths import ROOT
from steps.common.images.decode import BadImage, decode
from tests.support.decoding_bombs import (
    BOMBS,
    MAX_BYTES,
    MAX_PIXELS,
    bmp_rle,
    exif_in_parts,
    flat,
    huge_tiles,
    many_values,
    noise,
    png,
    saved,
    scans,
)
from tests.support.decoding_bombs import SMALL as SMALL_PNG
from tests.support.hostile_images import chunk

SECONDS = 2.0
MEBIBYTES = 1_000
# Decodes one file, and says how much CPU time and memory that took.
DECODE = """
import json, resource, sys, time
from steps.common.images.decode import BadImage, decode
from tests.support.peak_memory import peak_mebibytes
data, began = sys.stdin.buffer.read(), time.process_time()
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
rule = None
for _ in range(int(sys.argv[2])):
    try:
        decode(data, size=28, channels=1, max_pixels=int(sys.argv[1]))
    except BadImage as error:
        rule = error.rule
print(json.dumps({"seconds": time.process_time() - began, "mebibytes": peak_mebibytes(), "rule": rule}))
"""


def cost(data: bytes, times: int = 1) -> dict[str, Any]:
    """What it costs to decode a file so many times, in a process of its own."""
    words = [sys.executable, "-c", DECODE, str(MAX_PIXELS), str(times)]
    done = subprocess.run(words, cwd=ROOT, input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:] or done.returncode
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_decoded_or_refused_in_time(name: str) -> None:
    data = BOMBS[name]()
    assert len(data) <= MAX_BYTES
    found = cost(data)
    print(f"{name}: {found}")
    assert found["seconds"] < SECONDS
    assert found["mebibytes"] < MEBIBYTES
    assert found["rule"] in (None, "truncated", "too-many-pixels", "too-slow-to-decode")


SMALL: dict[str, Callable[[], bytes]] = {
    "JPEG, scans": lambda: scans(saved(flat(1, 600, 500), "JPEG", progressive=True), 900)[:48_000],
    "JPEG, EXIF": lambda: exif_in_parts(many_values(40_000)),
    "PNG, zTXt": lambda: png(SMALL_PNG, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000), 9))] * 45),
    "TIFF, huge tiles": lambda: huge_tiles(1_000),
    "BMP, runs": lambda: bmp_rle(500, 500, b"\1\7" * 23_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_sixty_four_small_bombs_in_one_request_take_no_longer(name: str) -> None:
    data = SMALL[name]()
    assert len(data) < 50_000
    found = cost(data, times=64)
    print(f"{name}: {found}")
    assert found["seconds"] < SECONDS


REFUSED = ("JPEG, 300 scans in 150 KB", "JPEG, segments", "GIF, comments")
ALSO_REFUSED = (
    *("JPEG, fill bytes", "JPEG, EXIF in parts", "PNG, chunks"),
    *("TIFF, huge tiles", "BMP, runs of 20 MP", "PPM, few greys of 4 MP"),
)


@pytest.mark.parametrize("name", [*REFUSED, *(pytest.param(name, marks=pytest.mark.slow) for name in ALSO_REFUSED)])
def test_a_bomb_is_refused_before_it_is_decoded(name: str) -> None:
    with pytest.raises(BadImage, match="^too-slow-to-decode: .+; save it anew"):
        decode(BOMBS[name](), size=28, channels=1, max_pixels=MAX_PIXELS)


ORDINARY: dict[str, bytes] = {
    "progressive JPEG": saved(noise(640, 480, 3), "JPEG", progressive=True),
    "JPEG with EXIF": saved(flat(3, 64, 64), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "PNG with small chunks": saved(noise(300, 300, 3), "PNG", compress_level=0),
    "animated GIF": saved(flat(3, 50, 50), "GIF", save_all=True, append_images=[flat(3, 50, 50)] * 300),
    "BMP": saved(noise(300, 300, 3), "BMP"),
    "TIFF of many strips": saved(noise(64, 4000, 1), "TIFF", tiffinfo={278: 1}),
    "TIFF of JPEGs": saved(noise(900, 900, 3), "TIFF", compression="jpeg"),
    "PPM of 12 bits": b"P5\n300 300\n4095\n" + b"\x07\x00" * 90_000,
    "TIFF of one large tile": huge_tiles(512),
    "plain PPM": b"P2\n30 30\n9\n" + b"7 " * 900,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_are_within_the_limits(name: str) -> None:
    decoded = decode(ORDINARY[name], size=28, channels=3, max_pixels=1_000_000)
    assert decoded.shape == (28, 28, 3)


def test_a_progressive_jpeg_of_the_largest_size_is_within_the_limits() -> None:
    data = saved(flat(3), "JPEG", progressive=True)
    assert np.ptp(decode(data, size=28, channels=1, max_pixels=MAX_PIXELS)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_damage_is_always_the_files_fault(seed: int) -> None:
    """Bytes of ordinary files and bombs changed at random: a rule is broken, and nothing else raised."""
    random = np.random.default_rng(seed)
    for data in ORDINARY.values():
        for _ in range(15):
            changed = np.frombuffer(data, np.uint8).copy()
            places = random.integers(0, min(len(data), 400), random.integers(1, 8))
            changed[places] = random.integers(0, 256, len(places))
            with suppress(BadImage):
                decode(changed.tobytes(), size=28, channels=1, max_pixels=100_000)
