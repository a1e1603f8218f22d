"""Decides what on the volumes is needed, and why: reads stamps, manifests and the journal; changes nothing."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from contract.pointer import MODEL_STORE
from steps.common.images.places import KIND
from steps.common.images.unused import remove_unused, unused
from steps.common.volumes import LOGS, data_volume, deploy_volume, model_volume
from steps.deploy.gc import artefacts, cache
from steps.deploy.gc.artefacts import Stored
from steps.deploy.gc.versions import Kept, versions

_DAY = 24 * 3600 * 10**9
# What a run without changes looks up beside what the version was made of; small, and made of the same.
_BESIDE = ("validation", "calibration", "verdict")
_CHAMPION = "champion"  # the role of its evaluation among the inputs of a verdict
# As `write_atomically` names a file until it is whole.
_UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")


@dataclass(frozen=True)
class Item:
    """Something on a volume: its kind, where it is, how many bytes it takes, and why it is kept or not needed.

    `stored` is the artefact that it is, if it is one. Of a file that many share, `count` is how many parts of it are
    meant, and `remove` takes them out.
    """

    kind: str
    path: Path
    bytes: int
    why: str
    stored: Stored | None = None
    count: int = 1
    remove: Callable[[], None] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Plan:
    """What is to be deleted, in this order, and what is kept."""

    delete: tuple[Item, ...]
    keep: tuple[Item, ...]


def plan(keep_days: int) -> Plan:
    """Decide about everything that steps leave on the volumes; images, draws and downloads are not looked at.

    Args:
        keep_days: What a run of these last days used is kept.

    Returns:
        The plan. An artefact is deleted before what it was made of.

    Raises:
        StepError: The journal, the pointer or a record is damaged, so that nobody knows what is needed.
    """
    now = time.time_ns()
    building = artefacts.builds()
    # A run that has been building for a week used what it needs from the volumes before that week.
    cutoff = min([now, *(began for _, began in building if began)]) - keep_days * _DAY
    told = versions(cutoff)
    found = artefacts.stored()
    needed = _needed(found, told.kept, cutoff)
    at = datetime.fromtimestamp(cutoff / 1e9, UTC).date()
    unused = f"no kept version needs it, and no run has used it since {at}"
    keep, delete = list[Item](), list[Item]()
    for each in sorted(found, key=lambda each: each.stamp, reverse=True):
        why = needed.get(each.id)
        if each.damaged and not why:
            why = None if each.stamp < now - _DAY else "it is damaged, and younger than a day"
        told_why = why or ("it is damaged, and no step can use it" if each.damaged else unused)
        item = Item(each.kind, each.path, artefacts.size(each.path), told_why, each)
        (keep if why else delete).append(item)
    delete += [Item("backup", path, artefacts.size(path), unused) for path in told.old_archives]
    being_built = {id for id, _ in building}
    for item, last in _by_age(now, cutoff):
        (keep if last >= cutoff or item.path.stem in being_built else delete).append(item)
    delete += [*_half_built(now), *_cached(cutoff)]
    gone = {item.path for item in delete}
    delete += _pixels([each.id for each in found if each.kind == KIND and each.path not in gone])
    store = deploy_volume() / MODEL_STORE
    keep += [Item(MODEL_STORE, path, artefacts.size(path), "a server may serve it") for path in store.glob("[!.]*")]
    return Plan(tuple(delete), tuple(keep))


def _needed(found: Iterable[Stored], kept: Iterable[Kept], cutoff: int) -> dict[str, str]:
    """Why artefacts are needed, by their ids."""
    made_of: dict[str, dict[str, str]] = {}
    for each in found:
        made_of.setdefault(each.id, {}).update(each.inputs)
    why: dict[str, str] = {}
    for version in kept:
        own = _closure(version.artefacts(), made_of)
        if version.is_current:
            for each in (each for each in found if each.kind in _BESIDE and each.inputs):
                own |= {each.id} if own.issuperset(each.inputs.values()) else set()
        for id in own:
            why.setdefault(id, version.why)
    for each in found:
        if each.stamp >= cutoff and not each.damaged:
            for id in _closure([each.id], made_of):
                why.setdefault(id, "a run used it, or what was made of it")
    return why


def _closure(ids: Iterable[str], made_of: Mapping[str, Mapping[str, str]]) -> set[str]:
    """These artefacts and all that they were made of, as far as it is there."""
    # A verdict needs the champion's answers, and not the champion: these came from its archive.
    found, waiting, answers = set[str](), list(ids), set[str]()
    while waiting:
        id = waiting.pop()
        if id in made_of and id not in found:
            found.add(id)
            waiting += [of for role, of in made_of[id].items() if role != _CHAMPION]
            answers |= {of for role, of in made_of[id].items() if role == _CHAMPION and of in made_of}
    return found | answers


def _by_age(now: int, cutoff: int) -> Iterator[tuple[Item, int]]:
    """Embeddings kept for later runs, checkpoints, records of runs on Kubeflow, and logs, each with its newest time."""
    places = (
        ("vectors", model_volume() / "vectors", "*.sqlite*"),
        ("checkpoint", model_volume() / "checkpoints", "*.pt"),
        ("run", model_volume() / "runs", "[!.]*"),
        ("log", data_volume().with_name(LOGS), "run-*.log"),
    )
    for kind, folder, names in places:
        for path in sorted(folder.glob(names)):
            last = artefacts.newest(path)
            days = (now - last) // _DAY
            yield Item(kind, path, artefacts.size(path), f"{days} days old"), last


def _cached(cutoff: int) -> Iterator[Item]:
    """What is remembered of image files: rows of files that are gone, and the whole for an earlier program."""
    images = data_volume() / "images"
    caches = sorted((data_volume() / "cache").glob("*.sqlite"), key=artefacts.newest)
    for path in caches:
        if cache.program(path) != cache.program(caches[-1]) and artefacts.newest(path) < cutoff:
            yield Item("cache", path, artefacts.size(path), "another version of this program wrote it")
        elif (images / "train").is_dir():  # else the images may only be out of reach
            gone, share = cache.gone(path, images)
            if gone:
                size = int(artefacts.size(path) * share)
                forget = partial(cache.forget, path, gone)
                yield Item("cached file", path, size, "the image file is gone", count=len(gone), remove=forget)


def _pixels(splits: Sequence[str]) -> Iterator[Item]:
    """The pixels that these splits do not name."""
    volume = data_volume()

    def remove() -> None:
        remove_unused(volume, [each.id for each in artefacts.stored() if each.kind == KIND])

    for each in unused(volume, splits):
        if each.bytes:
            yield Item("pixels", each.folder, each.bytes, "no split names them", count=each.rows, remove=remove)


def _half_built(now: int) -> Iterator[Item]:
    """What killed processes left: hidden folders of builds, and hidden files that were to replace others."""
    deploy, runs = deploy_volume(), model_volume() / "runs"
    left = [each.path for each in artefacts.half_built() if not each.at_work] + sorted(
        runs.glob(f".*{artefacts.GONE}*")
    )
    folders = (data_volume(), model_volume(), model_volume() / "checkpoints", *runs.glob("[!.]*"))
    for folder in (*folders, deploy, deploy / "versions", deploy / MODEL_STORE):
        left += [path for path in sorted(folder.glob(".*")) if _UNFINISHED.fullmatch(path.name) and path.is_file()]
    for path in left:
        if artefacts.GONE in path.name or artefacts.newest(path) < now - _DAY:
            yield Item("unfinished", path, artefacts.size(path), "a killed process left it")
