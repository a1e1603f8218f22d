"""Which images a model has had: those that it learned from, and those that its index holds.

Reads splits on the data volume, and manifests; writes and reads `seen.npz`, which travels in the model's archive so
that later models are compared with this one on images that are new to both. It holds hashes of 64 bits, no images.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.common.images.dataset import KIND, Rows, open_split
from steps.common.lineage import lineage
from steps.common.volumes import data_volume

FILE = "seen.npz"
_BYTES = 8


@dataclass(frozen=True)
class Seen:
    """What a model has had: hashes uint64 of content keys, and of groups.

    Of what its network learned from, in training and validation, and of what its index holds.
    """

    learned: NDArray[np.uint64]
    held: NDArray[np.uint64]
    groups: NDArray[np.uint64]

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Of all images that it has had, each once."""
        return np.union1d(self.learned, self.held)

    def digest(self) -> str:
        """What tells it from another."""
        return hashlib.sha256(b"".join(part.tobytes() for part in asdict(self).values())).hexdigest()


def hashes(names: Sequence[str]) -> NDArray[np.uint64]:
    """A hash uint64 [N] of each name."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=_BYTES).digest() for name in names)
    return np.frombuffer(digests, np.uint64)


def seen_by(network: str, index: str, artefacts: Mapping[str, Mapping[str, Any]] | None = None) -> Seen | None:
    """What a network and an index have had.

    Args:
        network: The id of the network.
        index: The id of the index.
        artefacts: Where they come from, as `lineage` gives it; by default as the manifests in the store say.

    Returns:
        The hashes; None if that is not known, or a split is gone, or was made by a version that kept no keys.
    """
    found = artefacts if artefacts is not None else lineage([network, index])
    try:
        made_of = found[network]["inputs"]
        gallery = found[found[index]["inputs"]["embeddings"]]["inputs"]["gallery"]
        learned = [_rows(made_of[split]) for split in ("train", "validation")]
        held = _rows(gallery)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    had = [*learned, held]
    if not all(len(rows.keys) == len(rows.names) for rows in had):
        return None
    return Seen(
        _unique(key for rows in learned for key in rows.keys),
        _unique(held.keys),
        _unique(group for rows in had for group in rows.groups),
    )


def to_bytes(seen: Seen) -> bytes:
    """The file; equal hashes give equal bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **asdict(seen))
    return buffer.getvalue()


def from_bytes(data: bytes) -> Seen:
    """What a file holds; ValueError, KeyError or OSError if it is none."""
    with np.load(io.BytesIO(data)) as file:
        return Seen(*(file[name].astype(np.uint64) for name in ("learned", "held", "groups")))


def fair(rows: Rows, *models: Seen) -> NDArray[np.bool_]:
    """Which images of a split no model has had, nor one of their group: bool [N]."""
    keys, groups = hashes(rows.keys), hashes(rows.groups)
    had = np.zeros(len(keys), bool)
    for seen in models:
        had |= np.isin(keys, seen.keys) | np.isin(groups, seen.groups)
    fair: NDArray[np.bool_] = ~np.isin(groups, groups[had])
    return fair


def fresh(challenger: Seen, champion: Seen) -> int:
    """How many images the challenger has had and the champion has not."""
    return len(np.setdiff1d(challenger.keys, champion.keys))


def _rows(split: str) -> Rows:
    return open_split(data_volume() / KIND / split).rows


def _unique(names: Iterable[str]) -> NDArray[np.uint64]:
    return np.unique(hashes(list(names)))
