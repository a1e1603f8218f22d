"""The model now served, as a champion: what is in its archive, what it answers to test images, and what it has had.

Reads the archive in the model store, and the originals of test images. It is asked through its ONNX, as the server asks
it, so that its architecture may be another than this image's; code in an archive is not run.
"""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.pointer import MODEL_STORE, pointer_path
from steps.common.errors import StepError
from steps.common.models.contents import INDEX_FILES, ONNX, archived_contents, stored_contents
from steps.common.volumes import deploy_volume

if TYPE_CHECKING:
    from steps.common.images.dataset import Split
    from steps.common.models.seen import Seen

_DAMAGE = (OSError, KeyError, ValueError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Served:
    """The version now served, with the ids of its network and index, and the name of its archive."""

    version: str
    network: str
    index: str
    mar: str

    def is_made_of(self, network: str, index: str) -> bool:
        """Whether it is this network and index of the store, to the byte; a damaged archive is known by its ids."""
        if (self.network, self.index) != (network, index):
            return False
        try:
            with zipfile.ZipFile(self._path) as archive:
                return archived_contents(archive) == stored_contents(network, index)
        except _DAMAGE:
            return True

    @cached_property
    def contents(self) -> dict[str, str]:
        """The SHA-256 of each file that makes it; StepError if the archive cannot be read, likewise below."""
        with self._opened() as archive:
            return archived_contents(archive) | {ONNX: hashlib.sha256(self._onnx(archive)).hexdigest()}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its `model.json`; an older archive has none."""
        with self._opened() as archive:
            found: dict[str, Any] = json.loads(archive.read("model.json")) if _has(archive, "model.json") else {}
            return found

    @cached_property
    def seen(self) -> "Seen | None":
        """What it has had: as its archive says, or as the splits say that an older archive names; None if unknown."""
        from steps.common.models import seen

        with self._opened() as archive:
            if _has(archive, seen.FILE):
                return seen.from_bytes(archive.read(seen.FILE))
            provenance = json.loads(archive.read("provenance.json")) if _has(archive, "provenance.json") else {}
        named = seen.seen_by(self.network, self.index, provenance.get("artefacts", {}))
        return named or seen.seen_by(self.network, self.index)

    def answer(self, split: "Split", folder: Path, batch_size: int) -> dict[str, Any]:
        """Ask it about each image of a split, at its own size and colours, and write the answers into a folder.

        Args:
            split: The test split.
            folder: Where the answers go.
            batch_size: Images in one pass of the network.

        Returns:
            Its limits of `unknown`; `asked`, the number of images; and `gone`, that of those without their originals.
        """
        import numpy as np

        from steps.analyse.answers import Limits, write_answers
        from steps.analyse.evaluate import ask
        from steps.analyse.images import Originals
        from steps.analyse.onnx_network import served_network

        side, colours = int(split.images.shape[1]), int(split.images.shape[3])
        size, channels = self.settings.get("image_size") or side, self.settings.get("channels") or colours
        same = (size, channels) == (side, colours)
        images = split.images if same else Originals(split, size, channels)
        with tempfile.TemporaryDirectory() as unpacked, self._opened() as archive:
            index, limits = Path(unpacked), Limits.of(self.settings)
            for name in INDEX_FILES:
                (index / name).write_bytes(archive.read(name))
            embed = served_network(self._onnx(archive), batch_size)
            neighbours = self.settings.get("neighbours", 1)
            answers = ask(embed, index, images, limits=limits, neighbours=neighbours)
        asked = np.ones(len(split), bool)
        if isinstance(images, Originals):
            asked[list(images.gone)] = False
        write_answers(folder, answers, asked)
        return {**asdict(limits), "asked": int(asked.sum()), "gone": int((~asked).sum())}

    @property
    def _path(self) -> Path:
        return deploy_volume() / MODEL_STORE / self.mar

    def _onnx(self, archive: zipfile.ZipFile) -> bytes:
        if _has(archive, ONNX):
            return archive.read(ONNX)
        raise StepError(
            f"the model now served, {self._path}, holds its network as code alone, which is not run from a volume, so "
            f"it cannot be compared with the new one: remove {pointer_path(deploy_volume())} to deploy against the "
            "baseline alone"
        )

    @contextmanager
    def _opened(self) -> Iterator[zipfile.ZipFile]:
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        except _DAMAGE as error:
            raise StepError(
                f"the model now served, {self._path}, cannot be read ({error}), so it cannot be compared with the new "
                f"one: restore it from backup/, or remove {pointer_path(deploy_volume())} to deploy against the "
                "baseline alone"
            ) from error


def _has(archive: zipfile.ZipFile, name: str) -> bool:
    return name in archive.namelist()
