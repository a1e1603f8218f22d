"""What a split's manifest says of its images; reads no image."""

from steps.common.errors import StepError
from steps.common.images.places import KIND
from steps.common.parameters import ImageFormat
from steps.common.store import Artefact, find
from steps.common.volumes import data_volume


def format_of(split: str) -> ImageFormat:
    """The size and the channels of the images of a split.

    Args:
        split: Its id.

    Returns:
        The format.

    Raises:
        StepError: The split is missing or damaged.
    """
    return ImageFormat(**_found(split).manifest["parameters"])


def images_of(split: str) -> int:
    """The number of images of a split; StepError if it is missing or damaged.

    Args:
        split: Its id.

    Returns:
        The number.
    """
    return int(_found(split).facts["images"])


def _found(split: str) -> Artefact:
    found = find(data_volume(), KIND, split)
    if found is None:
        raise StepError(f"the split {split} is missing or incomplete: run the pipeline again, which makes it anew")
    return found
