"""The source `folder`: reads `<data volume>/images/{train,gallery,test}/<label>/`."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from contract.events import Warned, emit
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.preprocess.sources.source import Part, Parts, Source


class Folder(Source):
    """Your own images, a folder for each class."""

    def read(self) -> Parts:
        """List the images and hash them.

        Returns:
            The parts `train`, `gallery` and `test`, as far as their folders exist.

        Raises:
            StepError: if there is no folder `train`, or a folder holds no image.
        """
        from steps.common.volumes import data_volume

        root = data_volume() / "images"
        parts = {name: _part(root / name) for name in ("train", "gallery", "test") if (root / name).is_dir()}
        for name, part in parts.items():
            if not part.names:
                raise StepError(f"{root / name} holds no <label>/<image>: put one folder per class into it")
        if "train" not in parts:
            raise StepError(
                f"{root / 'train'} is missing: data.source is folder, so put images into train/<label>/ there"
            )
        return parts


def _part(root: Path) -> Part:
    seen = [path for path in root.rglob("*") if path.is_file() and not _hidden(path.relative_to(root))]
    files = sorted(path for path in seen if path.parent.parent == root)
    if other := sorted(set(seen) - set(files)):
        what = f"{len(other)} files in {root} are not in <label>/ and are left out: {other[0].relative_to(root)}"
        emit(Warned(what + (" and others" if len(other) > 1 else ""), "preprocess"))
    with ThreadPoolExecutor() as pool:
        keys = list(pool.map(file_sha256, files))
    return Part(
        labels=[path.parent.name for path in files],
        names=[path.relative_to(root.parent).as_posix() for path in files],
        keys=keys,
        get=lambda row: files[row].read_bytes(),
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
