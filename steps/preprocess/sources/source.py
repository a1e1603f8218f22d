"""What a source is: a class with its own parameters, that gives images before they are decoded.

The command line loads `params.yaml` with these classes, so a source imports its libraries within `read`.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from steps.common.parameters import Parameters

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """Images not yet decoded: a label for each, and a name for messages.

    `get(row)` returns the bytes of an image file, or pixels uint8 [H, W] or [H, W, 3]. `files` are the files, if they
    lie on the data volume: then a file that did not change is not read again.
    """

    labels: Sequence[str]
    names: Sequence[str]
    get: "Callable[[int], bytes | NDArray[np.uint8]]"
    files: "Files | None" = None


@dataclass(frozen=True)
class Files:
    """The files of a part: in `folder` under the part's names.

    Attributes:
        folder: Where they are.
        stats: For each file 32 bytes, which differ if it was changed: its size, times and inode, as `scan` gives them.
        newest: The latest of these times, in nanoseconds.
        since: The volume's own time when the files were looked at first, in nanoseconds: one that was written shortly
            before it, or later, may change without a trace.
    """

    folder: "Path"
    stats: bytes
    newest: int
    since: int


Parts = dict[str, Part]
LABELLED = "labelled/"  # before `train` or `gallery`: images that got their labels in review


def some_of(part: Part, rows: Sequence[int]) -> Part:
    """The part with some of its images alone, in the order of `rows`."""
    from steps.preprocess.sources.scan import STAT

    files = part.files
    if files:
        stats = b"".join(files.stats[row * STAT.size : (row + 1) * STAT.size] for row in rows)
        files = replace(files, stats=stats)
    labels, names = ([values[row] for row in rows] for values in (part.labels, part.names))
    return Part(labels, names, lambda row: part.get(rows[row]), files)


def role(part: str) -> str:
    """What the images of a part are for: `train`, `gallery` or `test`."""
    return part.removeprefix(LABELLED)


class Source(Parameters):
    """Where images come from.

    Its fields are keys of the section `data`. Each begins with the name of the source and has a default, so that a
    `params.yaml` with another source needs none of them.
    """

    needs_network: ClassVar[bool] = False
    lists_labelled: ClassVar[bool] = False  # whether it lists images that got their labels in review by itself

    def fingerprint(self) -> str | None:
        """What all images that the source gives follow from, if that is known without reading them; else None."""
        return None

    @abstractmethod
    def read(self) -> Parts:
        """Read labels and names, and decode nothing.

        Returns:
            The parts `train` and, if the source has them, `gallery` and `test`.

        Raises:
            StepError: if the source cannot be read.
        """


def array_part(prefix: str, images: "NDArray[np.uint8]", labels: "NDArray[np.uint8]") -> Part:
    """Return the part of images uint8 [N, H, W] with labels [N], named `<prefix>#<row>`."""
    return Part(
        labels=[str(label) for label in labels],
        names=[f"{prefix}#{row}" for row in range(len(images))],
        get=images.__getitem__,
    )


def fingerprint(parts: Parts) -> str | None:
    """What tells the files of a source from any others; None if there are none, or one was written just now."""
    from steps.preprocess.sources.scan import is_settled

    found = hashlib.sha256()
    for name, part in parts.items():
        if part.files is None or not is_settled(part.files.newest, part.files.since):
            return None
        found.update(f"{name}\0{len(part.names)}\0".encode())
        found.update("\0".join(part.names).encode())
        found.update(part.files.stats)
    return found.hexdigest()
