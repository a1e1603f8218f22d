"""Collects the images of a source: reads and decodes those that are new, keeps their pixels, and plans the splits."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from contract.events import Progress, Warned, emit
from steps.common.code.deciding import deciding_code
from steps.common.digest import digest
from steps.common.errors import StepError
from steps.common.images.decode import BadImage
from steps.common.images.facts import packed
from steps.common.images.places import PIXELS
from steps.common.images.shards import RECORD, Appender, Shards
from steps.common.parameters import ImageFormat
from steps.common.volumes import data_volume
from steps.preprocess.cache import Cache
from steps.preprocess.content import Contents, Keeper, Looked, contents, look, rendered
from steps.preprocess.draw import LEFT_OUT
from steps.preprocess.ledger import Ledger
from steps.preprocess.parameters import Data
from steps.preprocess.plan import Item, Planned, Settings, plan
from steps.preprocess.render import SIDE
from steps.preprocess.sources.source import Parts
from steps.preprocess.worker import Format, piece

DECODING = ("steps.preprocess.render", "steps.common.images.facts")  # what decides what is kept of an image
STEP = "preprocess"
_NAMED = 20  # unreadable images that are named
_OTHER_BYTES = 1000  # an image in the cache, in the ledger and in splits


@dataclass(frozen=True)
class Collected:
    """The images of a source with their plan, those that cannot be read, and what was said of them."""

    parts: Parts
    planned: Sequence[Planned]
    unreadable: Mapping[str, BadImage] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def shards(image_format: ImageFormat) -> Shards:
    """Where the pixels of images are kept that are decoded like this."""
    side, channels = image_format.image_size, image_format.channels
    return Shards(data_volume() / PIXELS / f"{side}x{side}x{channels}-{_decoding()}", (side, side, channels))


def format_of(parameters: Data, image_format: ImageFormat) -> Format:
    """How images are decoded."""
    return Format(image_format.image_size, image_format.channels, parameters.max_pixels)


def known(writer: str = "") -> Cache:
    """What files held that were decoded by this program; `writer` as `Cache` takes it."""
    return Cache(data_volume() / "cache" / f"images-{_decoding()}.sqlite", writer)


def ledger(parameters: Data) -> Ledger:
    """What remembers the draws under these parameters."""
    return Ledger(data_volume() / "splits", digest(_settings(parameters).__dict__))


def collect(parameters: Data, image_format: ImageFormat, parts: Parts, appender: Appender | None = None) -> Collected:
    """Look at each image of the source, and plan its split.

    Args:
        parameters: The section `data` of `params.yaml`.
        image_format: The size and the channels that images are decoded to.
        parts: What the source gives.
        appender: Takes the pixels that are not kept yet, and the draw is remembered, so that it holds from now on; with
            None nothing is kept but what is known of files.

    Returns:
        The images in the order of parts and names.

    Raises:
        StepError: if more than `max_unreadable` images cannot be decoded, or the volume has no room.
    """
    how = format_of(parameters, image_format)
    cache = known()
    keeper = Keeper(cache, appender, shards(image_format).table() if appender else None)
    looked = {name: look(part, how, keeper) for name, part in parts.items()}
    if appender:
        check_room(image_format, looked)
    found = read(parts, looked, how, keeper)
    items, unreadable = list[Item](), dict[str, BadImage]()
    for name, part in parts.items():
        unreadable |= {part.names[row]: trouble for row, trouble in found[name].troubles.items()}
        items += [
            Item(name, row, part.names[row], part.labels[row], key) for row, key in enumerate(found[name].keys) if key
        ]
    warnings = _check_unreadable(unreadable, parameters.max_unreadable)

    def thumbnails(wanted: Sequence[Item]) -> NDArray[np.uint8]:
        found, known = cache.thumbnails(packed([item.key for item in wanted]))
        for row in np.flatnonzero(~known):  # where the cache could not be written
            image = partial(rendered, parts[wanted[int(row)].part], how=how)
            [small] = piece([wanted[int(row)].row], image, how.shape).thumbnails
            if small.size > found.shape[1]:
                found = np.repeat(found, 3, axis=1)
            found[row] = np.broadcast_to(small, (SIDE, SIDE, found.shape[1] // SIDE**2)).ravel()
        return found

    settings, draws = _settings(parameters), ledger(parameters)
    if appender is None:
        return Collected(parts, plan(items, settings, draws.read(), thumbnails), unreadable)
    with draws.alone():
        if not draws.exists and any(draws.folder.glob("*.txt")):
            emit(Warned(f"{', '.join(settings.__dict__)} of data decide the splits, and are not as before: drawn anew"))
        memory = draws.read()
        planned = plan(items, settings, memory, thumbnails)
        drawn = {one.item.key: one.split for one in planned if one.item.role == "train" and one.split != LEFT_OUT}
        draws.remember(drawn, {one.item.key: one.group for one in planned}, memory)
    return Collected(parts, planned, unreadable, [*warnings, *_left_out(planned)])


def read(
    parts: Parts, looked: Mapping[str, Looked], how: Format, keeper: Keeper, step: str = STEP
) -> dict[str, Contents]:
    """Read and decode images, and keep what is found.

    Args:
        parts: What the source gives, or a part of it.
        looked: What is known of each part, and which of its images to read.
        how: How they are decoded.
        keeper: Keeps what is found.
        step: Says how far it is.

    Returns:
        The contents of each part.

    Raises:
        StepError: A process that decodes ended, or the volume is full.
    """
    total, done = sum(len(one.rows) for one in looked.values()), 0

    def tell(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if done // 1000 > before // 1000 or done == total:
            emit(Progress("read images", done, total, "images", step))

    try:
        return {name: contents(part, looked[name], how, keeper, tell) for name, part in parts.items()}
    finally:
        keeper.flush()


def check_room(image_format: ImageFormat, looked: Mapping[str, Looked]) -> None:
    """Refuse to begin what the volume has no room for.

    Args:
        image_format: What images are decoded to.
        looked: Which images of each part are to be read.

    Raises:
        StepError: There is no room.
    """
    count = sum(len(one.rows) for one in looked.values())
    store = shards(image_format)
    needed = count * (store.row_bytes + RECORD.itemsize + _OTHER_BYTES)
    volume = next(path for path in (store.folder, *store.folder.parents) if path.exists())
    free = shutil.disk_usage(volume).free
    if needed > free:
        raise StepError(
            f"{count} images to decode need up to {_size(needed)} on the volume of {data_volume()}, and {_size(free)} "
            "are free: free some space, or choose another volume, and run again"
        )


def _decoding() -> str:
    code = deciding_code(*DECODING)
    return digest([code.digest, code.libraries])


def _settings(parameters: Data) -> Settings:
    return Settings(**parameters.model_dump(include=set(Settings.__dataclass_fields__)))


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _left_out(planned: Sequence[Planned]) -> list[str]:
    """How many images of a part are left out, for each reason."""
    counts: dict[tuple[str, str], list[str]] = {}
    for one in planned:
        if one.split == LEFT_OUT:
            counts.setdefault((one.item.part, one.why), []).append(one.item.name)
    return [
        f"{len(names)} images of {part} are left out, since {why}: {min(names)} for one"
        for (part, why), names in sorted(counts.items())
    ]


def _check_unreadable(found: Mapping[str, BadImage], limit: int) -> list[str]:
    said = [f"unreadable: {name}: {found[name]}" for name in sorted(found)[:_NAMED]]
    if len(found) > limit:
        for line in said:
            emit(Warned(line, STEP))
        some = ", ".join(sorted(found)[:_NAMED])
        raise StepError(
            f"{len(found)} images cannot be read, and data.max_unreadable allows {limit}: mend or remove {some}"
            + (" and others" if len(found) > _NAMED else "")
        )
    return said
