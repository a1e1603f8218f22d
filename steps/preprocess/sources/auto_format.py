"""Chooses the size and the channels of images where `params.yaml` says `auto`: by the images to train on.

Looks at some files, those whose hashed names come first, so that neither their order nor their number matters. Reads
and replaces `<data volume>/cache/looks.json`, which remembers what was seen and may be deleted at any time.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median_low

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steps.common.code.deciding import deciding_code
from steps.common.digest import digest
from steps.common.errors import StepError
from steps.common.files import write_atomically
from steps.common.images.decode import BadImage, read_header, upright
from steps.common.parameters import AUTO, Channels, ImageFormat, WantedFormat
from steps.common.volumes import data_volume
from steps.preprocess.sources.scan import STAT, is_settled
from steps.preprocess.sources.source import Part

SIZES = (28, 32, 64, 128, 224)
_MOST = 500  # images that are looked at
_RARE = 0.01  # a source has colour if more than this share of its images does
_SMALL = 28  # pixels a side, at which colour is looked for
_COLOUR = 16  # levels between two channels of a pixel; scanners and JPEG leave a few in grey
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of Pillow


@dataclass
class Look:
    """What is seen of an image: its longer side in pixels, and the levels between the channels of its pixels at most.

    The levels are None until somebody asks for them, since the image must be decoded.
    """

    side: int
    levels: int | None


def resolved(wanted: WantedFormat, part: Part, max_pixels: int) -> ImageFormat:
    """The format of a source's images.

    Args:
        wanted: What `params.yaml` says: its numbers win.
        part: The images to train on.
        max_pixels: A larger image counts as unreadable.

    Returns:
        The least of SIZES that is not below the median of the images' longer sides, and the largest one at most; three
        channels if more than one image in a hundred has colour.
    """
    found: dict[str, int] = {}
    if AUTO in (wanted.image_size, wanted.channels):
        looks = _Looks(part, max_pixels)
        found["image_size"] = looks.size()
        if wanted.channels == AUTO:
            found["channels"] = looks.channels()
        looks.keep()
    return ImageFormat(**{**found, **wanted.numbers()})


class _Looks:
    """What is seen of some images of a part; those that cannot be read are left out."""

    def __init__(self, part: Part, max_pixels: int) -> None:
        self._part, self._max_pixels = part, max_pixels
        self._path = data_volume() / "cache" / "looks.json"
        code = deciding_code(__name__)
        self._program = digest([code.digest, code.libraries, max_pixels])
        self._known = self._remembered() if part.files else {}
        order = sorted(range(len(part.names)), key=lambda row: hashlib.blake2b(part.names[row].encode()).digest())
        self._rows = order[:_MOST]
        self._of: dict[int, Look] = {}
        for row in self._rows:
            with suppress(BadImage, OSError):
                self._of[row] = self._known.get(self._name(row)) or self._look(row)

    def size(self) -> int:
        """The size that fits most of them."""
        side = median_low([look.side for look in self._of.values()] or SIZES[:1])
        return next((size for size in SIZES if size >= side), SIZES[-1])

    def channels(self) -> Channels:
        """Whether more than a few have colour; no more are decoded than it takes to know that."""
        few, coloured = _RARE * len(self._of), 0
        for row, look in self._of.items():
            if look.levels is None:
                with suppress(BadImage, OSError):
                    look.levels = self._levels(row)
            coloured += (look.levels or 0) >= _COLOUR
            if coloured > few:
                return 3
        return 1

    def keep(self) -> None:
        """Remember what was seen of files that cannot have changed without a trace; a failure costs time only."""
        files = self._part.files
        if files is None:
            return
        of = {}
        for row, look in self._of.items():
            _, modified, changed, _ = STAT.unpack(self._stat(row))
            if is_settled(max(modified, changed), files.since):
                of[self._name(row)] = asdict(look)
        with suppress(StepError, OSError):
            write_atomically(self._path, io.BytesIO(json.dumps({"program": self._program, "of": of}).encode()))

    def _look(self, row: int) -> Look:
        found = self._part.get(row)
        if not isinstance(found, bytes):
            return Look(max(found.shape[:2]), _levels(found) if found.ndim > 2 else 0)
        image = read_header(found, self._max_pixels)
        return Look(max(image.size), 0 if image.mode in GREY else None)

    def _levels(self, row: int) -> int:
        found = self._part.get(row)
        if not isinstance(found, bytes):
            return _levels(found)
        image = read_header(found, self._max_pixels)
        image.draft("RGB", (2 * _SMALL, 2 * _SMALL))
        small = upright(image, "RGB").resize((_SMALL, _SMALL), Image.Resampling.BOX)
        return _levels(np.asarray(small))

    def _stat(self, row: int) -> bytes:
        files = self._part.files
        return files.stats[row * STAT.size : (row + 1) * STAT.size] if files else b""

    def _name(self, row: int) -> str:
        """What a file is remembered by: another one has another name."""
        return f"{self._part.names[row]}\0{self._stat(row).hex()}"

    def _remembered(self) -> Mapping[str, Look]:
        try:
            found = json.loads(self._path.read_text())
            return (
                {name: Look(**look) for name, look in found["of"].items()} if found["program"] == self._program else {}
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}


def _levels(pixels: NDArray[np.uint8]) -> int:
    """The most levels between two channels of a pixel uint8 [H, W, 3]."""
    return int((pixels.max(2).astype(int) - pixels.min(2)).max())
