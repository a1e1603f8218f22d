"""Makes a labelled set of pictures from Debian's packages `fonts-noto-color-emoji` and `unicode-data`.

Writes `<folder>/<group>/<code point>.png`: eight groups of Unicode's emoji, those of a single code point; 1,372
pictures of 64 x 64 pixels with transparency.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
PACKAGES = "fonts-noto-color-emoji unicode-data"
_BITMAPS = 109  # the one size of the font's bitmaps
_CANVAS = 136
_SIDE = 64
_NO_CLASSES = ("Component", "Flags")
_AS_PICTURE = "FE0F"  # asks for the coloured form of a character
_LINE = re.compile(r"([0-9A-F ]+?) *; ")


def missing() -> str | None:
    """What to install before the pictures can be made; None if nothing."""
    return None if FONT.exists() and LIST.exists() else f"apt-get install {PACKAGES}"


def write(folder: Path) -> int:
    """Write the pictures, a folder for each group.

    Args:
        folder: Where the groups' folders go.

    Returns:
        The number of pictures.
    """
    font = ImageFont.truetype(str(FONT), _BITMAPS)
    found = dict.fromkeys(_listed())
    for group, code in found:
        below = folder / group.lower().replace(" & ", "-")
        below.mkdir(parents=True, exist_ok=True)
        _drawn(chr(int(code, 16)), font).save(below / f"{code.lower()}.png")
    return len(found)


def _listed() -> Iterator[tuple[str, str]]:
    """Group and code point of each emoji that is a single one."""
    group = ""
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        elif (match := _LINE.match(line)) and group not in _NO_CLASSES:
            codes = [code for code in match[1].split() if code != _AS_PICTURE]
            if len(codes) == 1:
                yield group, codes[0]


def _drawn(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    canvas = Image.new("RGBA", (_CANVAS, _CANVAS))
    ImageDraw.Draw(canvas).text((_CANVAS // 2, _CANVAS // 2), text, font=font, embedded_color=True, anchor="mm")
    return canvas.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
