"""Decoding any file of 4 MiB ends within two seconds of CPU time, and within memory; ordinary files pass the limits."""

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from contract.paths import ROOT
from steps.common.images.decode import BadImage, decode
from tests.support.decoding_bombs import BOMBS, MAX_BYTES, MAX_PIXELS, flat, noise, saved

SECONDS = 2.0
MEBIBYTES = 1_000
# Decodes one file, and says how much CPU time and memory that took.
DECODE = """
import json, resource, sys, time
from steps.common.images.decode import BadImage, decode
data, began = sys.stdin.buffer.read(), time.process_time()
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
try:
    decode(data, size=28, channels=1, max_pixels=int(sys.argv[1]))
    rule = None
except BadImage as error:
    rule = error.rule
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
print(json.dumps({"seconds": time.process_time() - began, "mebibytes": used, "rule": rule}))
"""


def cost(data: bytes) -> dict[str, Any]:
    """What it costs to decode a file, in a process of its own."""
    words = [sys.executable, "-c", DECODE, str(MAX_PIXELS)]
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


REFUSED = (
    *("JPEG, 300 scans in 150 KB", "JPEG, segments", "JPEG, fill bytes", "JPEG, EXIF in parts", "PNG, chunks"),
    *("GIF, comments", "TIFF, huge tiles", "BMP, runs of 20 MP", "PPM, few greys of 4 MP"),
)


@pytest.mark.parametrize("name", REFUSED)
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
    "plain PPM": b"P2\n30 30\n9\n" + b"7 " * 900,
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_files_are_within_the_limits(name: str) -> None:
    decoded = decode(ORDINARY[name], size=28, channels=3, max_pixels=1_000_000)
    assert decoded.shape == (28, 28, 3)


def test_a_progressive_jpeg_of_the_largest_size_is_within_the_limits() -> None:
    data = saved(flat(3), "JPEG", progressive=True)
    assert np.ptp(decode(data, size=28, channels=1, max_pixels=MAX_PIXELS)) <= 1


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
