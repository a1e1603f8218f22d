"""What each step costs, by the number of images and of nodes: formulas over constants; reads and writes nothing.

docs/scale.md has the formulas in words.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from steps.common.images.shards import RECORD
from steps.common.parameters import AUTO, DEFAULT_BACKBONE, SMALL, SMALL_SIDE, ImageFormat
from steps.train.auto import Numbers, numbers
from steps.train.parameters import Train

MB = 1e6
_NUMBER_BYTES = 4  # of a number in an embedding


class _Measured(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(_Measured):
    """Of images of one size.

    Bytes of a file, of the network that learns from them, and of what is kept of an embedded image beside its
    embedding. And images a second: that one core decodes, trains on and embeds; that are read one by one from the
    volume, not from memory.
    """

    channels: Literal[1, 3]
    file_bytes: int
    network_bytes: int
    kept_bytes: int
    decode_images_s: float
    read_images_s: float
    train_images_s: float
    embed_images_s: float


class Constants(_Measured):
    """What was measured on one machine and one volume, and what was assumed: the network between nodes.

    To find the near copies among the first number of images of a pair takes its seconds. Vectors a second are added to
    a graph of `index_vectors`. Memory is bytes of an image in a process: its name alone, all that is planned with, and
    a row of a split. Bytes are those on disk.
    """

    cores: int
    memory_gib: float
    list_files_s: float
    write_mb_s: float
    read_mb_s: float
    hash_mb_s: float
    plan_images_s: float
    near_copies: tuple[tuple[int, float], tuple[int, float]]
    validate_images_s: float
    index_vectors: int
    index_vectors_s: float
    search_images_s: float
    vector_bytes: float
    split_bytes: float
    cache_bytes: float
    name_memory: float
    plan_memory: float
    split_memory: float
    test_fraction: float
    validation_fraction: float
    embedding_size: int
    in_memory_mb: int
    network_mb_s: float
    images: Mapping[int, Kind]


@dataclass(frozen=True)
class Cost:
    """Of one step: seconds by what they go to, one after the other; bytes of memory, disk and network.

    Memory is that of the largest process; disk is what stays; network is what is read from and written to the volumes,
    and exchanged between nodes.
    """

    seconds: Mapping[str, float]
    memory: float = 0.0
    disk: float = 0.0
    network: float = 0.0

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(self.seconds.values())


def costs(constants: Constants, images: int, side: int, nodes: int) -> dict[str, Cost]:
    """The cost of each step of a first run.

    Args:
        constants: What was measured on a machine like each of the nodes.
        images: How many there are, all in `train/`.
        side: Their pixels a side.
        nodes: How many nodes decode and train; the other steps have one.

    Returns:
        The cost by the step's name, in the order of the graph. With one node there is no `scan`, and `decode` is a part
        of preprocess.
    """
    c, kind = constants, constants.images[side]
    listing = {"listing": images / c.list_files_s}
    names = images * c.name_memory
    found = {}
    if nodes > 1:
        found["scan"] = Cost(listing, names)
    found["decode"] = _decode(c, kind, images, side, nodes, listing if nodes > 1 else {}, names)
    found["preprocess"] = Cost(
        {**listing, "planning": images / c.plan_images_s, "near copies": _near_copies(c, images) / c.cores},
        memory=images * c.plan_memory,
        disk=images * (c.split_bytes + c.cache_bytes),
        network=images * (c.split_bytes + 2 * c.cache_bytes),
    )
    found["validate"] = Cost(
        {"checking": images / c.validate_images_s, **_hashing(c, images * c.split_bytes)},
        memory=images * c.split_memory,
        network=images * (c.split_bytes + RECORD.itemsize),
    )
    return found | _models(c, kind, images, side, nodes)


def chosen(images: int, side: int, channels: Literal[1, 3]) -> Numbers:
    """Epochs and batches that train's `auto` takes; of images above 32 pixels with a pretrained backbone."""
    backbone = SMALL if side <= SMALL_SIDE else DEFAULT_BACKBONE
    automatic = Train.model_construct(backbone=backbone, epochs=AUTO, batch_size=AUTO, widths=AUTO, scale=AUTO)
    return numbers(automatic, images, ImageFormat(image_size=side, channels=channels))


def row_bytes(kind: Kind, side: int) -> int:
    """Bytes of the pixels of an image."""
    return side * side * kind.channels


def _decode(
    c: Constants, kind: Kind, images: int, side: int, nodes: int, listing: Mapping[str, float], names: float
) -> Cost:
    pixels = row_bytes(kind, side) + RECORD.itemsize
    at_once = {
        "decoding": images / (kind.decode_images_s * c.cores * nodes),
        "reading files": images * kind.file_bytes / (c.read_mb_s * MB),
        "writing pixels": images * pixels / (c.write_mb_s * MB),
    }
    return Cost({**listing, **_longest(at_once)}, names, images * pixels, images * (kind.file_bytes + pixels))


def _models(c: Constants, kind: Kind, images: int, side: int, nodes: int) -> dict[str, Cost]:
    test, validation = images * c.test_fraction, images * c.validation_fraction
    gallery = images - test - validation  # and as many are trained on
    pixels, embedding = row_bytes(kind, side), _NUMBER_BYTES * c.embedding_size
    graph = gallery * c.vector_bytes
    return {
        "train": _train(c, kind, gallery, side, nodes),
        "embed": Cost(
            {**_longest(_embedding(c, kind, gallery)), **_hashing(c, gallery * c.split_bytes)},
            memory=gallery * (c.split_memory + 2 * embedding),
            disk=gallery * (2 * embedding + kind.kept_bytes),
            network=gallery * (pixels + 2 * embedding + kind.kept_bytes),
        ),
        "index": Cost(
            {
                "adding": gallery / c.index_vectors_s * _depth(c, gallery),
                **_hashing(c, gallery * embedding),
            },
            memory=graph + 2 * gallery * embedding,
            disk=graph,
            network=graph + gallery * embedding,
        ),
        "analyse": Cost(
            {
                **_longest(_embedding(c, kind, test + validation)),
                "searching": (test + validation) / (c.search_images_s * c.cores) * _depth(c, gallery),
                **_hashing(c, graph),
            },
            memory=graph + (test + validation) * (c.split_memory + embedding),
            disk=(test + validation) * (embedding + kind.kept_bytes),
            network=graph + (test + validation) * pixels,
        ),
        "deploy": Cost(
            {"reading the index": 2 * graph / (c.read_mb_s * MB), "writing archives": 2 * graph / (c.write_mb_s * MB)},
            memory=graph,
            disk=2 * graph,
            network=4 * graph,
        ),
    }


def _train(c: Constants, kind: Kind, images: float, side: int, nodes: int) -> Cost:
    choice = chosen(round(images), side, kind.channels)
    pixels = images * row_bytes(kind, side)
    in_memory = pixels <= c.in_memory_mb * 2**20
    passes = 1 if in_memory else choice.epochs
    exchanged = choice.epochs * images / choice.batch_size * 2 * kind.network_bytes * (nodes - 1)
    at_once = {
        "training": choice.epochs * images / (kind.train_images_s * c.cores * nodes),
        "reading rows": passes * images / kind.read_images_s,
    }
    seconds = {**_longest(at_once), **_hashing(c, images * c.split_bytes)}
    if nodes > 1:
        seconds["gradients"] = exchanged / nodes / (c.network_mb_s * MB)
    return Cost(
        seconds,
        memory=images * c.split_memory + (pixels if in_memory else 0),
        network=passes * pixels * (nodes if in_memory else 1) + exchanged,
    )


def _embedding(c: Constants, kind: Kind, images: float) -> dict[str, float]:
    return {"embedding": images / (kind.embed_images_s * c.cores), "reading rows": images / kind.read_images_s}


def _hashing(c: Constants, size: float) -> dict[str, float]:
    return {"hashing": size / (c.hash_mb_s * MB)}


def _near_copies(c: Constants, images: int) -> float:
    """Seconds n (a + b √n): to learn the cells costs the same for each image, to look through them what they hold."""
    (few, took), (many, took_many) = c.near_copies
    growing = max(0.0, (took_many / many - took / few) / (math.sqrt(many) - math.sqrt(few)))
    return images * max(0.0, took / few + growing * (math.sqrt(images) - math.sqrt(few)))


def _depth(c: Constants, vectors: float) -> float:
    """How many times as long a graph of so many vectors takes for each as the one that was measured."""
    return math.log(max(vectors, 2)) / math.log(c.index_vectors)


def _longest(at_once: Mapping[str, float]) -> dict[str, float]:
    """Of what goes on at the same time, that which the rest waits for."""
    name = max(at_once, key=lambda name: at_once[name])
    return {name: at_once[name]}


def first_bottleneck(constants: Constants, found: Mapping[str, Cost]) -> str:
    """What a run is stopped or held up by.

    Args:
        constants: Of the nodes, which say how much memory one has.
        found: The cost of each step.

    Returns:
        The first step that needs more memory than a node has, as `<step>: memory`; else the step and what takes the
        longest.
    """
    for step, cost in found.items():
        if cost.memory > constants.memory_gib * 2**30:
            return f"{step}: memory"
    parts = {f"{step}: {part}": spent for step, cost in found.items() for part, spent in cost.seconds.items()}
    return max(parts, key=lambda part: parts[part])
