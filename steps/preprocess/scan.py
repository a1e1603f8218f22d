"""Lists the images of the source `folder`, and names what is not taken: reads folders, opens no file."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from steps.common.errors import StepError

PARTS = ("train", "gallery", "test")
RESERVED = "unknown"  # what the server answers for an image of no class
_NAMED = 3


@dataclass
class Found:
    """The files of one part, with their labels and their names for messages."""

    paths: list[Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def read(self, row: int) -> bytes:
        """The bytes of a file."""
        return self.paths[row].read_bytes()


def scan(root: Path, warn: Callable[[str], None]) -> dict[str, Found]:
    """List `<root>/{train,gallery,test}/<label>/<image>`; links to folders and files are followed, each once.

    Args:
        root: The folder of the images.
        warn: Is told, a sentence each, what is empty, broken or left out.

    Returns:
        The parts whose folders exist. A label is its folder's name in NFC, without outer spaces.

    Raises:
        StepError: if a part is unknown or has no image, a name is not UTF-8, two labels differ only by case, by NFC or
            by outer spaces, a label is reserved, or a folder cannot be listed.
    """
    _check_parts(root, warn)
    parts = {name: _part(root, name, warn) for name in PARTS if (root / name).is_dir()}
    _check_labels(root, parts)
    for name, part in parts.items():
        if not part.names:
            raise StepError(f"{root / name} holds no <label>/<image>: put one folder per class into it")
    if "train" not in parts:
        raise StepError(f"{root / 'train'} is missing: data.source is folder, so put images into train/<label>/ there")
    return parts


def label_of(name: str) -> str:
    """The label that a folder's name stands for."""
    return unicodedata.normalize("NFC", name).strip()


def _check_parts(root: Path, warn: Callable[[str], None]) -> None:
    others = [path for path in _entries(root) if path.name not in PARTS]
    if unknown := [path.name for path in others if path.is_dir()]:
        raise StepError(
            f"{root} has {', '.join(map(repr, unknown))}, and the parts are {', '.join(PARTS)}: move the images to one "
            "of these (validation images are drawn from train), or the folder elsewhere"
        )
    if others:
        warn(f"{_some([path.name for path in others])} in {root} are in no <part>/<label>/, so they are left out")


def _part(root: Path, name: str, warn: Callable[[str], None]) -> Found:
    found, folders, classes = Found(), dict[Path, Path](), list[Path]()
    left_out: list[str] = []
    for path in _entries(root / name):
        if not path.exists():
            warn(f"{path} is a broken link, so it is left out")
        elif not path.is_dir():
            left_out.append(path.name)
        elif (real := path.resolve()) in folders:
            warn(f"{path} is the same folder as {folders[real]}, so it is left out")
        else:
            folders[real] = path
            classes.append(path)
    for path in classes:
        files = list(_files(path, warn, left_out))
        if not files:
            warn(f"class folder {path} holds no image")
        for file in files:
            found.paths.append(file)
            found.labels.append(label_of(path.name))
            found.names.append(file.relative_to(root).as_posix())
    if left_out:
        warn(f"{_some(left_out)} in {root / name} are not <label>/<image>, so they are left out")
    return found


def _files(folder: Path, warn: Callable[[str], None], left_out: list[str]) -> Iterator[Path]:
    """The files of a class folder, each once, by its own name before a link to it."""
    broken: list[str] = []
    taken: set[tuple[int, int]] = set()
    for path in sorted(_entries(folder), key=lambda path: (path.is_symlink(), path.name)):
        try:
            found = path.stat()
        except OSError:
            broken.append(path.name)
            continue
        if path.is_dir() or (path.is_symlink() and (found.st_dev, found.st_ino) in taken):
            left_out.append(f"{folder.name}/{path.name}")
        else:
            taken.add((found.st_dev, found.st_ino))
            yield path
    if broken:
        warn(f"{_some(broken)} in {folder} are broken or unreadable, so they are left out")


def _check_labels(root: Path, parts: dict[str, Found]) -> None:
    first: dict[str, tuple[str, Path]] = {}
    for name in parts:
        for folder in sorted(path for path in _entries(root / name) if path.is_dir()):
            label = label_of(folder.name)
            if label.casefold() == RESERVED:
                raise StepError(
                    f"{folder}: the server answers {RESERVED!r} for an image of no class: rename the folder"
                )
            if not label:
                raise StepError(f"{folder}: a label needs a character that is no space: rename it")
            other, path = first.setdefault(unicodedata.normalize("NFC", label.casefold()), (label, folder))
            same_part = path.parent == folder.parent
            if path != folder and (other != label or same_part) and path.resolve() != folder.resolve():
                raise StepError(
                    f"{path} and {folder} would be two classes whose labels differ only by case, by spaces or by how "
                    "accents are written: give both one name"
                )


def _entries(folder: Path) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StepError(f"{folder} cannot be listed ({error.strerror}): let this user read it") from error
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise StepError(f"{os.fsencode(folder / name)!r} has a name that is not UTF-8: rename it") from error
    return [folder / name for name in names]


def _some(names: list[str]) -> str:
    """How many there are, and the names of the first."""
    first = ", ".join(sorted(names)[:_NAMED])
    return f"{len(names)} ({first}{', …' if len(names) > _NAMED else ''})"
