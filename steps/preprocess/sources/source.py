"""What a source is: a class with its own parameters, that gives images before they are decoded.

The command line loads `params.yaml` with these classes, so a source imports its libraries within `read`.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from steps.common.digest import digest
from steps.common.parameters import Parameters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Part:
    """Images not yet decoded: each one's label, its name for messages, and a key, equal only for equal content.

    `get(row)` returns the bytes of an image file, or grey pixels uint8 [H, W].
    """

    labels: Sequence[str]
    names: Sequence[str]
    keys: Sequence[str]
    get: "Callable[[int], bytes | NDArray[np.uint8]]"

    @property
    def digest(self) -> str:
        """Digest of all labels, names and contents."""
        return digest(sorted(zip(self.labels, self.names, self.keys, strict=True)))


Parts = dict[str, Part]


class Source(Parameters):
    """Where images come from.

    Its fields are keys of the section `data`. Each begins with the name of the source and has a default, so that a
    `params.yaml` with another source needs none of them.
    """

    needs_network: ClassVar[bool] = False

    @abstractmethod
    def read(self) -> Parts:
        """Read labels, names and keys, and decode nothing.

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
        keys=[hashlib.sha256(image.tobytes()).hexdigest() for image in images],
        get=images.__getitem__,
    )
