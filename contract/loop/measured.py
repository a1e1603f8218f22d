"""What was measured on reviewed images: `measured.json` beside the collected images.

Review writes it, and the server's metrics tell it: a server has the collected images wherever it runs, and the labels
on one machine alone.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from contract.files import replace
from contract.loop.labels import Measured
from contract.pointer import DAMAGE

FILE = "measured.json"


def write(folder: Path, measured: Mapping[str, Measured]) -> None:
    """Replace the file by rename.

    Args:
        folder: The folder of the collected images, which is there.
        measured: The counts of each version.

    Raises:
        OSError: It cannot be written.
    """
    counts = {version: asdict(each) for version, each in sorted(measured.items())}
    replace(folder / FILE, io.BytesIO(json.dumps(counts, indent=1).encode() + b"\n"))


def read(folder: Path) -> dict[str, Measured]:
    """The counts of each version, by its name; none without the file, or of a damaged one."""
    try:
        content = json.loads((folder / FILE).read_bytes())
        return {
            str(version): Measured(**{name: int(count) for name, count in counts.items()})
            for version, counts in sorted(content.items())
        }
    except (OSError, *DAMAGE):
        return {}
