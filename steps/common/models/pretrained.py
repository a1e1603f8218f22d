"""Pretrained weights on the data volume: `weights/<id>/weights.safetensors`, which preprocess fetches and train reads.

Reads the head of such a file.
"""

import json
from pathlib import Path

from steps.common.errors import StepError

KIND = "weights"
FILE = "weights.safetensors"
_LENGTH_BYTES = 8  # of the head's length, which a file begins with
_LONGEST_HEAD = 100 << 20


def check_format(path: Path) -> None:
    """Raise StepError unless a file has the form of safetensors, and its length: a page of errors has not, say."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            if not 0 < length <= min(size, _LONGEST_HEAD):
                raise ValueError("it has no head")
            head = json.loads(file.read(length))
        ends = [int(tensor["data_offsets"][1]) for name, tensor in head.items() if name != "__metadata__"]
        if not ends or max(ends) + length + _LENGTH_BYTES != size:
            raise ValueError(f"its tensors do not fill its {size} bytes")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise StepError(f"{path} holds no weights in the format safetensors ({error}): delete it") from error
