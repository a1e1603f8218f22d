"""Which images on the data volume are copies, and of which folder: reads and writes `<data volume>/copied.json`."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

from contract.files import replace
from steps.common.volumes import data_volume


@dataclass(frozen=True)
class Copied:
    """The folder that `make run IMAGES=` copied last, and the names of the copies below `images/`."""

    folder: str
    files: set[str]

    @classmethod
    def read(cls) -> "Copied":
        """What was written last; nothing if there is no file that can be read."""
        try:
            found = json.loads(_path().read_text(encoding="utf-8"))
            return cls(str(found["folder"]), set(map(str, found["files"])))
        except (OSError, ValueError, LookupError, TypeError):
            return cls("", set())

    def why_fixed(self, file: str) -> str:
        """Why a file below `images/` cannot be moved; empty if it can, since it is no copy."""
        if file not in self.files:
            return ""
        return f"{file} is a copy from {self.folder}: move the original there, and run with IMAGES again"

    def write(self) -> None:
        """Replace what was written last."""
        text = json.dumps({"folder": self.folder, "files": sorted(self.files)}, ensure_ascii=False, indent=1)
        replace(_path(), io.BytesIO(text.encode()))


def _path() -> Path:
    return data_volume() / "copied.json"
