"""The store of images that the server kept: its form on disk, and how it is written, read and emptied.

`<folder>/images/<first two digits>/<digest>` holds an image's bytes as they were sent, and `<digest>.json` beside it
the record; the digest is the SHA-256 of the bytes. Several processes and pods write at once: there are no locks, each
file appears whole by a rename, and the record comes last and goes first. An image without a record is not there.

Standard library only, since it travels in the model archive too. Only the user who serves can read the files.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

FOLDER = "collect"  # beside the volumes, and the volume's name on Kubernetes
UNKNOWN, NEAR, RANDOM = "unknown", "near", "random"  # the first is also the answer to an image of no class
REASONS = (RANDOM, NEAR, UNKNOWN)  # why an image was kept, the least informative first
MAX_REQUESTS = 20  # ids in a record: later requests with the same image add none
_IMAGES = "images"
_RECORD = ".json"
_DIGITS = frozenset("0123456789abcdef")
_KINDS = {str: ("time", "model", "version", "label"), bool: ("random",), int: ("bytes",)}  # of fields always there
_BLOCK = 4096  # bytes; a file takes whole blocks of a disk
_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """One image that was kept, and what was answered.

    Attributes:
        digest: SHA-256 of the bytes, in hexadecimal digits.
        requests: Ids (X-Request-Id) of the requests that sent it, MAX_REQUESTS at most.
        time: When it was first kept, ISO 8601 in UTC.
        model: Name of the model that answered.
        version: Its version.
        label: The answer; may be `unknown`.
        nearest: Label of the nearest neighbour, also where the answer is `unknown`; None without a neighbour.
        distance: Of the nearest neighbour, a cosine distance from 0 to 2; None without one.
        threshold: Of this distance, above which an image is unknown; None if the model has none.
        features_distance: Distance of the network's features from those of the training images; None if not known.
        features_threshold: Of that distance; None if the model has none.
        unknown_by: Which distances made it unknown: `distance`, `features_distance`.
        reason: One of REASONS: unknown, or near a threshold, or neither, and so only drawn at random.
        random: Whether its request was drawn at random. These images are an unbiased sample of what was sent, whatever
            their reason is.
        polarity: What the client stated; None if nothing.
        bytes: Length of the image file.
        content_type: Of the image file, by its first bytes.
    """

    digest: str
    requests: tuple[str, ...]
    time: str
    model: str
    version: str
    label: str
    nearest: str | None
    distance: float | None
    threshold: float | None
    features_distance: float | None
    features_threshold: float | None
    unknown_by: tuple[str, ...]
    reason: str
    random: bool
    polarity: str | None
    bytes: int
    content_type: str

    @classmethod
    def parsed(cls, content: Mapping[str, Any]) -> Self:
        """The record in JSON; keys that are not known are left out.

        Args:
            content: The JSON object.

        Returns:
            The record.

        Raises:
            ValueError: It is damaged; KeyError, TypeError or AttributeError mean the same.
        """
        values = {each.name: content[each.name] for each in dataclasses.fields(cls)}
        values |= {name: tuple(map(str, values[name])) for name in ("requests", "unknown_by")}
        if values["reason"] not in REASONS or not _is_digest(values["digest"]):
            raise ValueError(f"reason {values['reason']!r}, digest {values['digest']!r}")
        for kind, names in _KINDS.items():
            if wrong := [name for name in names if type(values[name]) is not kind]:
                raise ValueError(f"{wrong[0]} is {values[wrong[0]]!r}")
        return cls(**values)

    def content(self) -> dict[str, Any]:
        """The record as a JSON object."""
        return dict(vars(self))

    @property
    def disk_bytes(self) -> int:
        """What image and record take of a disk: whole blocks of 4 KiB, one for the record."""
        return (-(-self.bytes // _BLOCK) + 1) * _BLOCK


def digest_of(image: bytes | bytearray) -> str:
    """The digest by which an image is stored."""
    return hashlib.sha256(image).hexdigest()


def write(folder: Path, image: bytes | bytearray, record: Collected) -> bool:
    """Store an image once; if it is there, its record gains the request's id.

    The answer in the record stays the first one, but for this: an answer that was drawn at random replaces one that was
    not, so that the random ones stay a fair sample; and among those not drawn one with a better reason replaces the
    other. If two processes store the same image in the same moment, one of
    the ids may be lost.

    Args:
        folder: The store; it is made if it is not there.
        image: The bytes.
        record: Its record, with one request.

    Returns:
        Whether the image is new.

    Raises:
        OSError: It cannot be written; what was there before is untouched.
    """
    path = image_path(folder, record.digest)
    before = read(folder, record.digest)
    after = record if before is None else _joined(before, record)
    if before is None or not path.exists():
        if not path.parent.is_dir():
            for each in (folder, folder / _IMAGES, path.parent):
                with suppress(FileExistsError):
                    each.mkdir(mode=0o700, parents=each == folder)
        _replace(path, image)
    if after != before:
        replace_record(folder, after)
    return before is None


def replace_record(folder: Path, record: Collected) -> None:
    """Write the record of an image that is there; OSError if it cannot be written."""
    _replace(_record_path(folder, record.digest), json.dumps(record.content(), allow_nan=False).encode() + b"\n")


def read(folder: Path, digest: str) -> Collected | None:
    """The record of one image; None if there is none, or a damaged one."""
    try:
        return Collected.parsed(json.loads(_record_path(folder, digest).read_bytes()))
    except (OSError, *_DAMAGE):
        return None


def read_all(folder: Path) -> Iterator[Collected]:
    """The records of all images, in no order. What appears or goes meanwhile may be left out.

    Args:
        folder: The store; without a folder there are none.

    Yields:
        One record after the other; damaged ones are left out.
    """
    for shard in shards(folder):
        for digest in digests(folder, shard):
            if record := read(folder, digest):
                yield record


def read_image(folder: Path, digest: str) -> bytes | None:
    """The bytes of one image; None if it is gone, or not what was stored."""
    try:
        image = image_path(folder, digest).read_bytes()
    except OSError:
        return None
    return image if digest_of(image) == digest else None


def remove(folder: Path, digest: str) -> bool:
    """Remove one image and its record.

    Args:
        folder: The store.
        digest: Of the image.

    Returns:
        Whether there was a record.

    Raises:
        OSError: It cannot be removed.
    """
    was_there = _removed(_record_path(folder, digest))
    _removed(image_path(folder, digest))
    return was_there


def image_path(folder: Path, digest: str) -> Path:
    """The file of an image; ValueError if `digest` is none."""
    if not _is_digest(digest):
        raise ValueError(f"{digest!r} is no SHA-256: give 64 hexadecimal digits in lower case")
    return folder / _IMAGES / digest[:2] / digest


def shards(folder: Path) -> list[str]:
    """The names of the folders that hold the images, at most 256, in order."""
    try:
        return sorted(name for name in os.listdir(folder / _IMAGES) if len(name) == 2 and set(name) <= _DIGITS)
    except OSError:
        return []


def shard_path(folder: Path, shard: str) -> Path:
    """One of these folders."""
    return folder / _IMAGES / shard


def digests(folder: Path, shard: str) -> list[str]:
    """The digests of all images in one of these folders, in order."""
    names = _names(folder, shard)
    return sorted(name for name in names if _is_digest(name) and name[:2] == shard and name + _RECORD in names)


def strays(folder: Path, shard: str) -> list[Path]:
    """Files in one of these folders that belong to no image: killed writers leave some, and running ones have some."""
    names = _names(folder, shard)
    whole = set(digests(folder, shard))
    return [shard_path(folder, shard) / name for name in sorted(names) if name.removesuffix(_RECORD) not in whole]


def _names(folder: Path, shard: str) -> set[str]:
    try:
        return set(os.listdir(shard_path(folder, shard)))
    except OSError:
        return set()


def _joined(before: Collected, now: Collected) -> Collected:
    requests = tuple(dict.fromkeys((*before.requests, *now.requests)))[:MAX_REQUESTS]
    if now.random == before.random:
        is_better = not now.random and REASONS.index(now.reason) > REASONS.index(before.reason)
    else:
        is_better = now.random
    answer = now if is_better else before
    return dataclasses.replace(answer, requests=requests, time=before.time)


def _record_path(folder: Path, digest: str) -> Path:
    path = image_path(folder, digest)
    return path.with_name(path.name + _RECORD)


def _replace(path: Path, content: bytes | bytearray) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _is_digest(text: Any) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= _DIGITS
