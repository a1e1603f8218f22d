"""Copies a folder of own images to the data volume, for `make run IMAGES=/folder`.

Reads `<folder>/<label>/<image>`, or `<folder>/train/<label>/<image>` with `test` and `gallery` beside `train`. Writes
`<data volume>/images/`, where a second call copies only what changed, and `<data volume>/copied.json`: what was copied
from where, so that a copy whose original is gone is removed, and nothing else ever is. What was labelled in
review stays beside the copies.
"""

import json
import os
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from contract.errors import InputError
from contract.loop.labels import Labels
from contract.pointer import MODEL_STORE
from pipeline.copied import Copied
from steps.common.files import writing
from steps.common.images.decode import FORMATS
from steps.common.locks import held
from steps.common.pointer import read_pointer
from steps.common.volumes import data_volume, deploy_volume
from steps.preprocess.sources.scan import STAT, label_of, scan, scan_classes

_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".ppm", ".pgm", ".pbm", ".tif", ".tiff", ".webp")
_NAMED = 3
_KINDS = ", ".join(FORMATS)
_TRAIN = "train"
_CLASSES = 2  # at least
_TEMPORARY = ".copying."


@dataclass(frozen=True)
class _Original:
    """An image of the folder: where it is, its size, and when it was written, in nanoseconds."""

    path: Path
    size: int
    written: int

    def is_at(self, path: Path) -> bool:
        """Whether this file is a copy of it."""
        try:
            found = path.stat()
        except OSError:
            return False
        return (found.st_size, found.st_mtime_ns) == (self.size, self.written)


def copy_images(folder: Path, allow_lost_classes: Iterable[str]) -> list[str]:
    """Copy the images of a folder to the data volume.

    Args:
        folder: Folders of classes, or `train`, `test` and `gallery` with folders of classes.
        allow_lost_classes: Classes of the served model that the folder need not have.

    Returns:
        Lines that say what was copied and what was left out.

    Raises:
        InputError: The folder has no such structure or no images; the data volume has other images; or the served model
            knows classes that the folder does not have, so that no model of it would be deployed.
    """
    folder = Path(os.path.abspath(folder.expanduser()))
    target, said = data_volume() / "images", list[str]()
    originals = _originals(folder, target, said.append)
    classes, labelled = ({label_of(name.split("/")[1]) for name in names} for names in (originals, _labelled()))
    _check_served(folder, classes | labelled, allow_lost_classes)
    # Without locks two runs copy the same files, each whole.
    with writing(target), held(target.with_name("copied.lock"), f"another run is copying images to {target}"):
        copied, removed = _mirror(folder, originals, target)
    what = f"{len(originals)} images of {len(classes)} classes in {folder}"
    if copied or removed:
        gone = f", {removed} removed, whose originals are gone" if removed else ""
        said.append(f"{what}: {copied} copied to {target}, {len(originals) - copied} there already{gone}")
    else:
        said.append(f"{what}: all are in {target} already")
    return said


def _originals(folder: Path, target: Path, say: Callable[[str], None]) -> dict[str, _Original]:
    """The images of the folder by their names below `images/`; InputError if it cannot be used."""
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"IMAGES is {folder}, which {found}: name a folder that has a folder of images for each class")
    real, taken = folder.resolve(), target.resolve()
    if real == taken or real in taken.parents or taken in real.parents:
        raise InputError(f"IMAGES is {folder}, and {target} is where images are copied to: set data.source to folder")
    inner = _folders(folder)
    if _TRAIN in inner and _folders(folder / _TRAIN):
        parts = scan(folder, say)
    elif inner:
        parts = {_TRAIN: scan_classes(folder, say)}
    else:
        raise InputError(f"IMAGES is {folder}, which has no folders: put the images of each class into one")
    images, others = dict[str, _Original](), list[str]()
    for part, listed in parts.items():
        for row, name in enumerate(listed.names):
            path = listed.root / name
            if path.suffix.lower() in _SUFFIXES:
                size, written, _, _ = STAT.unpack_from(listed.stats, row * STAT.size)
                images[f"{part}/{name.partition('/')[2]}"] = _Original(path, size, written)
            else:
                others.append(name)
    if others:
        kinds = Counter(Path(name).suffix or "none" for name in others)
        ends = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_NAMED))
        say(f"left out of {folder}, since they do not end like {_KINDS}: {ends}")
    if len({name.split("/")[1] for name in images if name.startswith(f"{_TRAIN}/")}) < _CLASSES:
        raise InputError(
            f"IMAGES is {folder}, which has no {_CLASSES} folders with images ({_KINDS}): put those of each "
            "class into a folder of its name"
        )
    return images


def _folders(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}): let this user read it") from error


def _check_served(folder: Path, classes: set[str], allowed: Iterable[str]) -> None:
    """Refuse what the gate would refuse after the training: a model without classes that the served one knows."""
    served = read_pointer()
    if served is None:
        return
    try:
        with zipfile.ZipFile(deploy_volume() / MODEL_STORE / served.mar) as archive:
            known = set(json.loads(archive.read("labels.json"))["classes"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return  # the gate will say what is wrong with it
    if lost := sorted(known - classes - set(allowed)):
        some = ", ".join(islice(lost, _NAMED)) + (", …" if len(lost) > _NAMED else "")
        raise InputError(
            f"the model now served from {deploy_volume().parent} knows {len(lost)} classes that {folder} does not have "
            f"({some}): choose another folder for the new model with VOLUMES=/elsewhere, or name these classes in "
            "gate.allow_lost_classes"
        )


def _mirror(folder: Path, originals: Mapping[str, _Original], target: Path) -> tuple[int, int]:
    """Make copies; the numbers of files copied, and of copies removed."""
    before = Copied.read()
    there = {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}
    there -= _labelled()
    new = [name for name, original in originals.items() if not original.is_at(target / name)]
    stale = there - originals.keys()
    foreign = stale | (there & set(new))
    if before.folder == str(folder):
        foreign -= before.files
    if foreign:
        raise InputError(
            f"{target} has images that are not from {folder} ({len(foreign)}, {min(foreign)} for one): move them away, "
            "or choose another folder of volumes with VOLUMES=/elsewhere"
        )
    _check_room(sum(originals[name].size for name in new), target)
    Copied(str(folder), before.files | originals.keys()).write()
    for left in target.parent.glob(f"{_TEMPORARY}*"):  # by a killed run
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=target.parent) as temporary:
        for name in new:
            _copy(originals[name], target / name, Path(temporary, "image"))
    for name in stale:
        (target / name).unlink(missing_ok=True)
        with suppress(OSError):  # it has other images
            (target / name).parent.rmdir()
    Copied(str(folder), set(originals)).write()
    return len(new), len(stale)


def _labelled() -> set[str]:
    """The images that came from review, which stay whatever the folder has."""
    labels = Labels(data_volume())
    labels.refresh()
    return set(labels.files())


def _copy(original: _Original, target: Path, temporary: Path) -> None:
    try:
        source = original.path.open("rb")
    except OSError as error:
        raise InputError(f"{original.path} cannot be read ({error.strerror}): let this user read it") from error
    with source, temporary.open("wb") as file:
        shutil.copyfileobj(source, file)
    os.utime(temporary, ns=(original.written, original.written))
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(temporary, target)


def _check_room(needed: int, target: Path) -> None:
    free = shutil.disk_usage(target).free
    if needed > free:
        raise InputError(
            f"the images need {needed / 2**20:.0f} MiB, and {target} has {free / 2**20:.0f} MiB free: free some space, "
            "or choose another folder of volumes with VOLUMES=/elsewhere"
        )
