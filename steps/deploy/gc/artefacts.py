"""The artefacts on the data and model volumes: reads manifests and their stamps, changes nothing."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from steps.common.store import MANIFEST
from steps.common.usage import is_locked
from steps.common.volumes import data_volume, model_volume

GONE = ".gone-"  # in the hidden name of what gc has moved away, and deletes then
_ID = re.compile(r"[0-9a-f]{16}")
_LOCK = re.compile(r"\.[0-9a-f]{16}")
_HALF_BUILT = re.compile(r"\.([0-9a-f]{16})\..+")


@dataclass(frozen=True)
class Stored:
    """A folder `<volume>/<kind>/<id>/`, with the ids that it was made of, by their roles, and its stamp in nanoseconds.

    A damaged one has no manifest that can be read; its stamp is that of its newest file, and it is made of nothing.
    """

    volume: Path
    kind: str
    id: str
    stamp: int
    inputs: Mapping[str, str] = field(default_factory=dict)
    damaged: bool = False

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.volume / self.kind / self.id


@dataclass(frozen=True)
class HalfBuilt:
    """A hidden folder that a step builds in, or built in when it was killed, or that a killed `gc` had moved away."""

    path: Path
    at_work: bool


def stored() -> list[Stored]:
    """Every artefact on the two volumes, of whatever kind."""
    return [each for volume, kind in _shelves() for each in _of(volume, kind)]


def half_built() -> list[HalfBuilt]:
    """Each of them on the two volumes."""
    found = ((path, _HALF_BUILT.fullmatch(path.name)) for path in _hidden() if path.is_dir())
    return [HalfBuilt(path, is_locked(path.with_name(f".{name[1]}"))) for path, name in found if name]


def builds() -> list[tuple[str, int]]:
    """The artefacts that are being built: the id of each, and when that began, in nanoseconds, at the latest."""
    found = []
    for path in _hidden():
        if _LOCK.fullmatch(path.name) and is_locked(path):
            times = [oldest(each) for each in (path, *path.parent.glob(f"{path.name}.*"))]
            found.append((path.name[1:], min(filter(None, times), default=0)))
    return found


def newest(path: Path) -> int:
    """When something in this folder, or this file, changed last, in nanoseconds; 0 if it is gone."""
    return max((found.st_mtime_ns for found in _stats(path)), default=0)


def oldest(path: Path) -> int:
    """Likewise, of what changed first."""
    return min((found.st_mtime_ns for found in _stats(path)), default=0)


def size(path: Path) -> int:
    """The bytes that a folder or a file takes on the disk."""
    return sum(found.st_blocks * 512 for found in _stats(path))


def _shelves() -> Iterator[tuple[Path, str]]:
    """Each folder of artefacts: its volume and its kind."""
    return ((volume, kind) for volume in (data_volume(), model_volume()) for kind in _kinds(volume))


def _hidden() -> Iterator[Path]:
    """What has a hidden name in these folders: locks, and what is half built."""
    return (path for volume, kind in _shelves() for path in sorted((volume / kind).glob(".*")))


def _kinds(volume: Path) -> list[str]:
    """The folders on a volume with an artefact, or what was to become one."""
    try:
        folders = [entry.name for entry in os.scandir(volume) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(name for name in folders if not name.startswith(".") and _is_kind(volume / name))


def _is_kind(folder: Path) -> bool:
    try:
        names = os.listdir(folder)
    except OSError:  # a folder of somebody else
        return False
    return any(_LOCK.fullmatch(name) or _HALF_BUILT.fullmatch(name) for name in names) or any(
        _ID.fullmatch(name) and (folder / name / MANIFEST).is_file() for name in names
    )


def _of(volume: Path, kind: str) -> Iterator[Stored]:
    for name in sorted(os.listdir(volume / kind)):
        path = volume / kind / name
        if _ID.fullmatch(name) and path.is_dir():
            try:
                manifest = path / MANIFEST
                used = manifest.stat().st_mtime_ns
                inputs = json.loads(manifest.read_text())["inputs"].items()
                yield Stored(volume, kind, name, used, {role: id for role, id in inputs if isinstance(id, str)})
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                yield Stored(volume, kind, name, newest(path), damaged=True)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or a folder and all below it; without what goes meanwhile."""
    below = (Path(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files))
    for each in (path, *below):
        with suppress(OSError):
            yield each.lstat()
