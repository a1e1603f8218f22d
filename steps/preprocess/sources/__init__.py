"""The sources of images, a file each: `data.source` in `params.yaml` is the name of the file.

A new source is such a file, and its import here.
"""

from steps.preprocess.sources.folder import Folder as Folder
from steps.preprocess.sources.mnist import Mnist as Mnist
from steps.preprocess.sources.sample import Sample as Sample
from steps.preprocess.sources.source import Source

SOURCES: dict[str, type[Source]] = {kind.__module__.rpartition(".")[2]: kind for kind in Source.__subclasses__()}
