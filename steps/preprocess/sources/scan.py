"""Lists the images of the source `folder`, and names what is not taken: reads folders, opens no file."""

import os
import stat
import struct
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from steps.common.errors import StepError

PARTS = ("train", "gallery", "test")
RESERVED = "unknown"  # what the server answers for an image of no class
STAT = struct.Struct("<qqqQ")
# A file that was written this shortly before it was looked at may have been written again at the same time stamp
# ("racy" in Git's words); network file systems have stamps of one second, some others of two.
RACY_SECONDS = 3
_NAMED = 3


@dataclass
class Found:
    """The files of one part: their labels, their paths below the folder of the images, and what tells a changed one.

    Attributes:
        stats: STAT for each file: its size, the times of its content and of its inode in nanoseconds, and the inode.
        newest: The latest of these times.
    """

    root: Path
    labels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    stats: bytearray = field(default_factory=bytearray)
    newest: int = 0

    def read(self, row: int) -> bytes:
        """The bytes of a file."""
        return (self.root / self.names[row]).read_bytes()


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


def scan_classes(folder: Path, warn: Callable[[str], None]) -> Found:
    """List `<folder>/<label>/<image>` likewise.

    Args:
        folder: A folder of folders of classes.
        warn: As for `scan`.

    Returns:
        Its files, whose names begin with the folder's own.

    Raises:
        StepError: As `scan`.
    """
    found = _part(folder.parent, folder.name, warn)
    _check_labels(folder.parent, {folder.name: found})
    return found


def now_on(volume: Path) -> int:
    """The time in nanoseconds by the clock that stamps files on this volume, which may be another machine's."""
    try:
        with tempfile.TemporaryFile(dir=volume) as file:
            file.write(b" ")
            file.flush()
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:  # it cannot be written
        return time.time_ns()


def is_settled(changed: int, since: int) -> bool:
    """Whether a file that last changed at a time, in nanoseconds, cannot have changed after `since` without a trace."""
    return since - changed > RACY_SECONDS * 10**9


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
    found, folders, classes = Found(root), dict[Path, Path](), list[Path]()
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
        label, above, before = label_of(path.name), f"{name}/{path.name}/", len(found.names)
        for file, looked in _files(path, warn, left_out):
            found.names.append(above + file)
            found.stats += STAT.pack(looked.st_size, looked.st_mtime_ns, looked.st_ctime_ns, looked.st_ino)
            found.newest = max(found.newest, looked.st_mtime_ns, looked.st_ctime_ns)
        found.labels += [label] * (len(found.names) - before)
        if len(found.names) == before:
            warn(f"class folder {path} holds no image")
    if left_out:
        warn(f"{_some(left_out)} in {root / name} are not <label>/<image>, so they are left out")
    return found


def _files(folder: Path, warn: Callable[[str], None], left_out: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The names of the files of a class folder, each file once, by its own name before a link to it."""
    broken: list[str] = []
    links, files = _links_and_files(folder)
    taken: set[tuple[int, int]] = set()
    above = f"{folder}/"
    for name in (*files, *links):
        try:
            found = os.stat(above + name)
        except OSError:
            broken.append(name)
            continue
        is_link = links and name in links
        if stat.S_ISDIR(found.st_mode) or (is_link and (found.st_dev, found.st_ino) in taken):
            left_out.append(f"{folder.name}/{name}")
        else:
            if links:
                taken.add((found.st_dev, found.st_ino))
            yield name, found
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
    links, files = _links_and_files(folder)
    return [folder / name for name in sorted([*links, *files])]


def _links_and_files(folder: Path) -> tuple[dict[str, None], list[str]]:
    """The names of the links in a folder, and of what else is there, in order."""
    links, others = list[str](), list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (links if entry.is_symlink() else others).append(entry.name)
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise StepError(f"{folder} cannot be listed ({error.strerror}): let this user read it") from error
    for name in (*links, *others):
        if not name.isascii():
            _check_name(folder, name)
    links, others = (sorted(name for name in names if not name.startswith(".")) for names in (links, others))
    return dict.fromkeys(links), others


def _check_name(folder: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise StepError(f"{os.fsencode(folder / name)!r} has a name that is not UTF-8: rename it") from error


def _some(names: list[str]) -> str:
    """How many there are, and the names of the first."""
    first = ", ".join(sorted(names)[:_NAMED])
    return f"{len(names)} ({first}{', …' if len(names) > _NAMED else ''})"
