"""Brings labelled images to `<data volume>/images/<part>/<label>/`, moves them, and takes them away: all or none.

Each file appears, moves and goes by one rename. What is on its way lies in `<data volume>/labelling/`.
"""

import hashlib
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps

from contract import files
from pipeline.loop.errors import LabelError
from steps.common.images.decode import BadImage, read_header, upright
from steps.preprocess.sources.auto_format import GREY
from steps.preprocess.sources.scan import label_of

TRAIN, GALLERY = "train", "gallery"
PARTS = (TRAIN, GALLERY)  # where a label's image may go
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}  # others are named as their format


class Placing:
    """The images of a data volume. Who changes them is the only one who does.

    Args:
        volume: The data volume.

    Attributes:
        root: The folder of the parts; paths of images are below it.
    """

    def __init__(self, volume: Path) -> None:
        self.root, self._stage = volume / "images", volume / "labelling"
        self._back: list[Callable[[], object]] = []

    def clean(self) -> None:
        """Remove what a crash left on its way."""
        shutil.rmtree(self._stage, ignore_errors=True)

    @contextmanager
    def change(self) -> Iterator[None]:
        """Take back every step within this context if it ends with an error."""
        self._back = []
        try:
            yield
        except BaseException:
            self._take_back()
            raise
        finally:
            self.clean()

    def _take_back(self) -> None:
        for step in reversed(self._back):
            step()

    def folder(self, part: str, label: str) -> str:
        """The folder of a label in a part: the one that is there, however its name is written."""
        there = (path.name for path in self.folders(part) if label_of(path.name) == label)
        return f"{part}/{min(there, default=label)}"

    def folders(self, part: str) -> list[Path]:
        """The folders of a part, one for each class."""
        try:
            with os.scandir(self.root / part) as entries:
                return [Path(each) for each in entries if each.is_dir() and not each.name.startswith(".")]
        except FileNotFoundError:
            return []

    def copies(self, names: Iterable[str]) -> list[str]:
        """Where files of these names are, in the folders of all classes."""
        folders = [f"{part}/{path.name}" for part in PARTS for path in self.folders(part)]
        found = [f"{folder}/{name}" for name in names for folder in folders]
        return [file for file in found if self.is_there(file)]

    def is_there(self, file: str) -> bool:
        """Whether there is a file."""
        return (self.root / file).is_file()

    def put(self, file: str, data: bytes, copies: Iterable[str]) -> None:
        """Bring an image to its place.

        Args:
            file: Its place.
            data: Its bytes, for the case that it is nowhere yet.
            copies: Where it is; afterwards it is there no more.
        """
        for path in copies:
            if path != file:
                if self.is_there(file):
                    self.take_away(path)
                else:
                    self.rename(path, file)
        if self.is_there(file):
            return
        self._stage.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._stage, delete=False) as staged:
            staged.write(data)
            staged.flush()
            os.fchmod(staged.fileno(), 0o644)
            os.fsync(staged.fileno())
        self._bring(Path(staged.name), self.root / file)
        self._back.append((self.root / file).unlink)

    def rename(self, file: str, to: str) -> None:
        """Move an image to another place."""
        here, there = self.root / file, self.root / to
        self._bring(here, there)
        self._back.append(partial(os.replace, there, here))
        files.sync(here.parent)

    def take_away(self, file: str) -> None:
        """Take an image out of the data set; it is deleted when the change ends."""
        self._stage.mkdir(exist_ok=True)
        here, staged = self.root / file, self._stage / secrets.token_hex(8)
        os.replace(here, staged)
        self._back.append(partial(os.replace, staged, here))
        files.sync(here.parent)

    def _bring(self, path: Path, target: Path) -> None:
        """Rename a file into a folder, which is made if it is not there."""
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True)
            files.sync(target.parent.parent)
        os.replace(path, target)
        files.sync(target.parent)


def as_kept(digest: str, data: bytes, *, invert: bool, max_pixels: int) -> tuple[str, bytes]:
    """An image as the data set has it.

    Args:
        digest: SHA-256 of its bytes.
        data: Its bytes, as they were sent.
        invert: Whether it has the other polarity than the data set.
        max_pixels: A larger image is not decoded.

    Returns:
        Its file's name, the SHA-256 of what it holds; and the bytes: those that were sent, or an inverted PNG.

    Raises:
        LabelError: It cannot be decoded.
    """
    try:
        image = read_header(data, max_pixels)
        if not invert:
            return f"{digest}{_SUFFIXES.get(str(image.format), f'.{image.format}'.lower())}", data
        inverted = io.BytesIO()
        ImageOps.invert(plain(image)).save(inverted, "PNG")
    except BadImage as error:
        raise LabelError(f"the image cannot be decoded, so it cannot have a label ({error})") from error
    return f"{hashlib.sha256(inverted.getvalue()).hexdigest()}.png", inverted.getvalue()


def plain(image: Image.Image) -> Image.Image:
    """An image whose header was read, upright, in 8 bits, grey or in colour as it is; BadImage if it is damaged."""
    return upright(image, "L" if image.mode in GREY else "RGB")
