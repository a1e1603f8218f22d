"""Decodes a source in several pods at once, before preprocess: reads it, adds to `<data volume>/pixels/` and `cache/`.

`scan` sees whether anything is to be done, and by how many shards; `decode` decodes the images of one shard. A file's
shard follows from a hash of its path, so it depends neither on other files nor on their order. Preprocess then finds
the pixels, plans the splits, and decodes what is missing: no shard decides anything, and bad images are counted there.
"""

import hashlib
from typing import NamedTuple

from contract.events import Warned, emit
from steps.common import progress
from steps.common.parameters import Count, ImageFormat, Pretrained, typed
from steps.preprocess.parameters import Data
from steps.preprocess.preprocess import Before, before, ids_of, weights_of
from steps.preprocess.sources.source import Part, Parts, some_of
from steps.preprocess.sources.weights import named

SCAN, DECODE = "scan", "decode"
_FEWEST = 2000  # images of a shard: fewer are decoded sooner than a pod starts
_ONE = ["1/1"]


class Scanned(NamedTuple):
    """The inputs that decide the rest of the run, empty if they are not known yet; and the shards to decode."""

    inputs: dict[str, str]
    shards: list[str]


@typed
def scan(parameters: Data, training: Pretrained, shards: Count) -> Scanned:
    """See whether the source is as it was, and if not, by how many shards its new images are decoded.

    Args:
        parameters: The section `data` of `params.yaml`.
        training: The section `train`.
        shards: How many there may be.

    Returns:
        The ids of the splits and of the weights, if the source is as it was; and the shards, at least one, such as
        `1/3`, `2/3` and `3/3`.

    Raises:
        StepError: The source cannot be read, a backbone that is named cannot be had, or the volume has no room.
    """
    with progress.running(SCAN):
        weights = named(training)
        found = before(parameters)
        if found.made is not None:
            weights = weights or weights_of(training, parameters, found.made)
            progress.finished(SCAN, made="no image is new", unchanged=True)
            return Scanned(ids_of(found.made) | {"weights": weights.id}, _ONE)
        new = _new(parameters, found)
        count = max(1, min(shards, new // _FEWEST))
        progress.finished(SCAN, made=f"{new} images to read, in {count} shards", unchanged=False)
        return Scanned({}, [f"{number}/{count}" for number in range(1, count + 1)])


@typed
def decode(parameters: Data, shard: str) -> int:
    """Decode the new images of a shard, and keep their pixels.

    Args:
        parameters: The section `data` of `params.yaml`.
        shard: Which one, such as `2/3`.

    Returns:
        How many were decoded; 0 of a source without files, whose images preprocess decodes itself.

    Raises:
        StepError: The source cannot be read, a process that decodes ended, or the volume is full.
    """
    number, _, count = shard.partition("/")
    with progress.running(DECODE, record=f"{DECODE}-{number}"):
        parts = parameters.chosen_source().read()
        decoded = _decode(parameters, parts, int(number), int(count)) if _has_files(parts) else 0
        progress.finished(
            DECODE,
            record=f"{DECODE}-{number}",
            made=f"{decoded} images in shard {shard}",
            unchanged=not decoded,
            shards=1,
            images=decoded,
        )
        return decoded


def part_of(part: Part, number: int, count: int) -> Part:
    """The images of a shard.

    Args:
        part: Files.
        number: The shard, from 1 to `count`.
        count: How many there are.

    Returns:
        The part with these files alone, in their order.
    """
    return some_of(part, [row for row, name in enumerate(part.names) if _shard(name, count) == number])


def _shard(name: str, count: int) -> int:
    place = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
    return 1 + place % count


def _has_files(parts: Parts) -> bool:
    return all(part.files is not None for part in parts.values())


def _new(parameters: Data, found: Before) -> int:
    """How many images are to be decoded; StepError if there is no room for them."""
    from steps.preprocess.collect import check_room, format_of, known, shards
    from steps.preprocess.content import Keeper, look

    parts = found.parts or parameters.chosen_source().read()
    if not _has_files(parts):
        emit(Warned(f"the source {parameters.source} has no files on the volume, so preprocess decodes it alone", SCAN))
        return 0
    image_format = _format(parameters, parts)
    keeper = Keeper(known(), table=shards(image_format).table())
    looked = {name: look(part, format_of(parameters, image_format), keeper) for name, part in parts.items()}
    check_room(image_format, looked)
    return sum(len(one.rows) for one in looked.values())


def _decode(parameters: Data, parts: Parts, number: int, count: int) -> int:
    from steps.preprocess.collect import format_of, known, read, shards
    from steps.preprocess.content import Keeper, look

    image_format = _format(parameters, parts)
    store, how, writer = shards(image_format), format_of(parameters, image_format), str(number)
    own = {name: part_of(part, number, count) for name, part in parts.items()}
    with store.appending(writer) as appender:
        keeper = Keeper(known(writer), appender, store.table())
        looked = {name: look(part, how, keeper) for name, part in own.items()}
        found = read(own, looked, how, keeper, DECODE)
    return sum(len(one.rows) for one in looked.values()) - sum(len(one.troubles) for one in found.values())


def _format(parameters: Data, parts: Parts) -> ImageFormat:
    from steps.preprocess.sources.auto_format import resolved

    return resolved(parameters, parts["train"], parameters.max_pixels)
