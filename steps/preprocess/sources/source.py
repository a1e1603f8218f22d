"""What a source is: a class with its own parameters, that gives images before they are decoded.

The command line loads `params.yaml` with these classes, so a source imports its libraries within `read`.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


class Source(Parameters):
    """Where images come from.

    Its fields are keys of the section `data`. Each begins with the name of the source and has a default, so that a
    `params.yaml` with another source needs none of them.
    """

    needs_network: ClassVar[bool] = False

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
