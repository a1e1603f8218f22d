"""The source `folder`: lists `<data volume>/images/{train,gallery,test}/<label>/`."""

from typing import ClassVar

from contract.events import emit
from steps.preprocess.sources.source import Part, Parts, Source


class Folder(Source):
    """Your own images, a folder for each class."""

    lists_labelled: ClassVar[bool] = True

    def read(self) -> Parts:
        """List the images; what is empty, broken or left out is named.

        Returns:
            The parts `train`, `gallery` and `test`, as far as their folders exist.

        Raises:
            StepError: if there is no folder `train`, a folder holds no image, or a name or label cannot be used.
        """
        from contract.events import Warned
        from steps.common.volumes import data_volume
        from steps.preprocess.sources.scan import now_on, scan
        from steps.preprocess.sources.source import Files

        since = now_on(data_volume())
        found = scan(data_volume() / "images", lambda message: emit(Warned(message, "preprocess")))
        return {
            name: Part(part.labels, part.names, part.read, Files(part.root, bytes(part.stats), part.newest, since))
            for name, part in found.items()
        }
