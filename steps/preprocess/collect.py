"""Collects the images of a source: reads what each is, and plans its split; decodes none for training."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress, Warned, emit
from steps.common.digest import digest
from steps.common.errors import StepError
from steps.common.images.decode import BadImage
from steps.common.volumes import data_volume
from steps.preprocess.content import Content, of_bytes, of_files, of_pixels, thumbnail
from steps.preprocess.draw import LEFT_OUT
from steps.preprocess.ledger import Ledger
from steps.preprocess.parameters import Data
from steps.preprocess.plan import Item, Planned, Settings, plan
from steps.preprocess.sources.source import Part, Parts

_STEP = "preprocess"
_NAMED = 20  # unreadable images that are named


@dataclass(frozen=True)
class Collected:
    """The images of a source with their plan, and those that cannot be read."""

    parts: Parts
    planned: Sequence[Planned]
    unreadable: Mapping[str, BadImage] = field(default_factory=dict)


def collect(parameters: Data, *, remember: bool) -> Collected:
    """List the images of the source, look at each, and plan its split.

    Args:
        parameters: The section `data` of `params.yaml`.
        remember: Whether the draw is kept in the ledger, so that it holds from now on.

    Returns:
        The images in the order of parts and names.

    Raises:
        StepError: if the source cannot be read, or more than `max_unreadable` images cannot be decoded.
    """
    parts = parameters.chosen_source().read()
    contents = {name: _contents(part, parameters.max_pixels) for name, part in parts.items()}
    items, unreadable = [], dict[str, BadImage]()
    for name, part in parts.items():
        for row, content in enumerate(contents[name]):
            if content.trouble:
                unreadable[part.names[row]] = content.trouble
            else:
                items.append(Item(name, row, part.names[row], part.labels[row], content.key))
    _check_unreadable(unreadable, parameters.max_unreadable)
    settings = Settings(**parameters.model_dump(include=set(Settings.__dataclass_fields__)))
    ledger = Ledger(data_volume() / "splits", digest(settings.__dict__))

    def thumbnails(wanted: Sequence[Item]) -> NDArray[np.uint8]:
        found = b"".join(_thumbnail(parts[item.part], item.row, contents[item.part]) for item in wanted)
        return np.frombuffer(found, np.uint8).reshape(len(wanted), -1)

    if not remember:
        return Collected(parts, plan(items, settings, ledger.read(), thumbnails), unreadable)
    with ledger.alone():
        if not ledger.exists and any(ledger.folder.glob("*.txt")):
            emit(Warned(f"{', '.join(settings.__dict__)} of data decide the splits, and are not as before: drawn anew"))
        planned = plan(items, settings, ledger.read(), thumbnails)
        drawn = {one.item.key: one.split for one in planned if one.item.part == "train" and one.split != LEFT_OUT}
        ledger.remember(drawn, {one.item.key: one.group for one in planned})
    _tell_what_is_left_out(planned)
    return Collected(parts, planned, unreadable)


def _contents(part: Part, max_pixels: int) -> Sequence[Content]:
    if part.paths is not None:
        return of_files(part.paths, data_volume() / "cache/content.sqlite", max_pixels, _tell)
    found = map(part.get, range(len(part.names)))
    return [of_bytes(image, max_pixels) if isinstance(image, bytes) else of_pixels(image) for image in found]


def _thumbnail(part: Part, row: int, contents: Sequence[Content]) -> bytes:
    image = b"" if contents[row].thumbnail else part.get(row)
    return contents[row].thumbnail if isinstance(image, bytes) else thumbnail(image)


def _tell(done: int, total: int) -> None:
    if done % 1000 == 0 or done == total:
        emit(Progress("read images", done, total, "images", _STEP))


def _tell_what_is_left_out(planned: Sequence[Planned]) -> None:
    """Say how many images of a part are left out, for each reason."""
    counts: dict[tuple[str, str], list[str]] = {}
    for one in planned:
        if one.split == LEFT_OUT:
            counts.setdefault((one.item.part, one.why), []).append(one.item.name)
    for (part, why), names in sorted(counts.items()):
        emit(Warned(f"{len(names)} images of {part} are left out, since {why}: {min(names)} for one", _STEP))


def _check_unreadable(found: Mapping[str, BadImage], limit: int) -> None:
    for name in sorted(found)[:_NAMED]:
        emit(Warned(f"unreadable: {name}: {found[name]}", _STEP))
    if len(found) > limit:
        some = ", ".join(sorted(found)[:_NAMED])
        raise StepError(
            f"{len(found)} images cannot be read, and data.max_unreadable allows {limit}: mend or remove {some}"
            + (" and others" if len(found) > _NAMED else "")
        )


def original(part: Part, row: int) -> str:
    """The path of an image's file below the data volume; empty if it has none there."""
    if part.paths is None:
        return ""
    return os.path.relpath(part.paths[row], data_volume())
