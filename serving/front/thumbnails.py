"""The gallery's small pictures for the page: out of an archive, into the folder from which the door serves them."""

import shutil
import zipfile
from pathlib import Path

from contract.pointer import THUMBNAILS
from serving.log import Log


class Thumbnails:
    """The pictures of each version that answers, or just did: `<version>.webp`, and their layout, `<version>.json`.

    Args:
        folder: The folder in which `thumbnails/` is made.
        log: For messages.
    """

    def __init__(self, folder: Path, log: Log) -> None:
        self._folder, self._log = folder / "thumbnails", log
        self._folder.mkdir()

    def add(self, mar: Path, version: str) -> None:
        """Take a version's pictures out of its archive, if it has any.

        It never raises: predictions do not need them. Then the page shows neighbours without pictures.

        Args:
            mar: The archive.
            version: Its version.
        """
        try:
            with zipfile.ZipFile(mar) as archive:
                found = [name for name in THUMBNAILS if name in archive.namelist()]
                for name in found:
                    with archive.open(name) as source, self._path(version, name).open("wb") as target:
                        shutil.copyfileobj(source, target)
        except (OSError, zipfile.BadZipFile) as error:
            self.remove(version)
            self._log.announce(f"error: the page has no pictures of {version}: {error}", "ERROR")

    def remove(self, version: str) -> None:
        """Remove a version's pictures."""
        for name in THUMBNAILS:
            self._path(version, name).unlink(missing_ok=True)

    def _path(self, version: str, name: str) -> Path:
        return self._folder / f"{version}{Path(name).suffix}"
