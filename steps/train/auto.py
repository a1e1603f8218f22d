"""The parameters of train that are `auto`, as they follow from the data; reads some images of two splits."""

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from steps.common.errors import StepError
from steps.common.parameters import AUTO, SMALL, SMALL_SIDE, ImageFormat, are_like_digits
from steps.train.parameters import Train

if TYPE_CHECKING:
    from steps.common.images.dataset import Split

# Epochs: with fewer images than these, more, by the square root; with very many, as many as there is time for.
_EPOCHS, _MOST_EPOCHS, _FEWEST_EPOCHS = 28, 200, 4
_IMAGES, _MANY_IMAGES = 3600, 60_000
# A pretrained backbone needs fewer, and each takes longer.
_BACKBONE_EPOCHS, _BACKBONE_IMAGES, _MOST_BACKBONE_EPOCHS = 16, 1000, 40
# A batch: a power of two; so many batches in an epoch, and this much memory for what the gradient needs.
_LARGEST_BATCH, _SMALLEST_BATCH = 128, 32
_BATCHES = 15
_BATCH_BYTES = 448 << 20
# The convolutions: one more for images that can be halved once more.
_WIDTHS, _WIDTHS_OF_LARGE = [32, 32, 64], [32, 64, 128, 128]
# ArcFace's s: with 30, emoji are learned by heart; with 16, fewer letters are unknown to a network of digits. See
# docs/training.md.
_SCALE_OF_DIGITS, _SCALE = 30.0, 16.0
# ArcFace's m: `small` does not fit emoji with 0.5; digits and backbones do.
_MARGIN, _MARGIN_OF_OTHERS = 0.5, 0.2


@dataclass(frozen=True)
class Numbers:
    """What follows from the number of images and their format alone, and so is known before any is read."""

    epochs: int
    batch_size: int
    widths: list[int]
    scale: float
    margin: float

    def deciding(self) -> dict[str, Any]:
        """All of them, by name."""
        return asdict(self)


@dataclass(frozen=True)
class Chosen(Numbers):
    """And what follows from the images and their labels.

    Attributes:
        class_power: The power of a class's size in proportion to which it is drawn.
        flip: Whether every second image is mirrored.
    """

    class_power: float
    flip: bool

    def rate(self, of_large_batches: float) -> float:
        """The learning rate: that of batches of 128 or more, less for smaller ones, in proportion to their size."""
        return of_large_batches * min(self.batch_size / _LARGEST_BATCH, 1)

    def __str__(self) -> str:
        """As the closing table says it."""
        said = [f"{self.epochs} epochs", f"batches of {self.batch_size}"]
        said += ["mirrored"] if self.flip else []
        said += ["balanced"] if self.class_power < 1 else []
        return ", ".join(said)


def numbers(parameters: Train, images: int, image_format: ImageFormat) -> Numbers:
    """Choose by the number of training images and their format.

    Args:
        parameters: The section `train` of `params.yaml`, whose numbers win.
        images: The training images.
        image_format: Their size and channels.

    Returns:
        The choice.

    Raises:
        StepError: The images cannot be halved as often as there are widths.
    """
    widths = _WIDTHS if image_format.image_size <= SMALL_SIDE else _WIDTHS_OF_LARGE
    widths = widths if parameters.widths == AUTO else list(parameters.widths)
    if image_format.image_size >> len(widths) < 1:
        raise StepError(
            f"train.widths has {len(widths)} entries, and images of {image_format} cannot be halved as often: name "
            "fewer, or a larger data.image_size"
        )
    is_small = parameters.backbone == SMALL
    own = _epochs(images) if is_small else _epochs_of_a_backbone(images)
    epochs = own if parameters.epochs == AUTO else parameters.epochs
    size = _batch_size(images, image_format, widths) if parameters.batch_size == AUTO else parameters.batch_size
    of_digits = are_like_digits(image_format.image_size, image_format.channels)
    own_scale = _SCALE_OF_DIGITS if of_digits else _SCALE
    scale = own_scale if parameters.scale == AUTO else parameters.scale
    own_margin = _MARGIN_OF_OTHERS if is_small and not of_digits else _MARGIN
    margin = own_margin if parameters.margin == AUTO else parameters.margin
    return Numbers(epochs, size, widths, scale, margin)


def check_batch(batch_size: int, processes: int) -> None:
    """Check that every process gets images of a batch; StepError if not."""
    if batch_size < 2 * processes:
        raise StepError(
            f"train.batch_size is {batch_size}: {processes} processes need {2 * processes} or more, two images each"
        )


def chosen(parameters: Train, known: Numbers, train: "Split", validation: "Split") -> Chosen:
    """Choose by the images and their labels.

    Args:
        parameters: The section `train` of `params.yaml`, whose values win.
        known: What was chosen before.
        train: The training images.
        validation: The validation images.

    Returns:
        All that was chosen.
    """
    import torch

    from steps.train.mirroring import look
    from steps.train.sampling import power_for

    power, flip = parameters.class_power, parameters.flip
    return Chosen(
        **known.deciding(),
        class_power=power_for(torch.from_numpy(train.labels).bincount()) if power == AUTO else power,
        flip=look(train, validation).survive if flip == AUTO else flip,
    )


def _epochs(images: int) -> int:
    if images <= _MANY_IMAGES:
        return min(max(round(_EPOCHS * math.sqrt(_IMAGES / images)), _EPOCHS), _MOST_EPOCHS)
    return max(_EPOCHS * _MANY_IMAGES // images, _FEWEST_EPOCHS)


def _epochs_of_a_backbone(images: int) -> int:
    most = round(_BACKBONE_EPOCHS * math.sqrt(_BACKBONE_IMAGES / images))
    return min(max(most, _FEWEST_EPOCHS), _MOST_BACKBONE_EPOCHS)


def _batch_size(images: int, image_format: ImageFormat, widths: list[int]) -> int:
    fitting = _BATCH_BYTES // _bytes_of_an_image(image_format.image_size, widths)
    most = min(max(images // _BATCHES, _SMALLEST_BATCH), _LARGEST_BATCH, max(fitting, 2))
    return 1 << most.bit_length() - 1


def _bytes_of_an_image(side: int, widths: list[int]) -> int:
    """About what an image of a batch takes: its feature maps as float32, and their gradients."""
    rest = side // 2
    numbers = 2 * widths[0] * rest**2
    for width in widths[1:]:
        numbers += width * rest**2 + 4 * width * (rest // 2) ** 2  # before it is halved, and after
        rest //= 2
    return 2 * 4 * numbers
