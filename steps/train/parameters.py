"""The parameters of train: the section `train` of `params.yaml`."""

from typing import Annotated, Any

from pydantic import Field

from steps.common.parameters import (
    AUTO,
    SMALL,
    Auto,
    Count,
    Fraction,
    NoEffect,
    OrAuto,
    Pretrained,
    Seed,
    Share,
    Tuned,
)

BatchSize = Annotated[int, Field(ge=2)]
Scale = Annotated[float, Field(gt=0)]
Margin = Annotated[float, Field(ge=0, lt=1.5)]
Widths = Annotated[list[Count], Field(min_length=1, max_length=8)]
_OF_SMALL = ("widths",)
_OF_A_BACKBONE = ("backbone_rate", "backbone_frozen")


class Train(Pretrained, extra="forbid"):
    """The network, its loss, its schedule and its augmentation."""

    epochs: Annotated[Count | Auto, OrAuto(Count)] = Field(
        AUTO, description="passes over the training split; auto: by the number of its images"
    )
    batch_size: Annotated[BatchSize | Auto, OrAuto(BatchSize)] = Field(
        AUTO, description="images in a batch, over all GPUs together; auto: by their number, and by memory"
    )
    class_power: Annotated[Share | Auto, OrAuto(Share)] = Field(
        AUTO,
        description="classes are drawn in proportion to their size to this power; auto: 0.5 if the largest is 3 times "
        "the smallest, else 1",
    )
    learning_rate: Annotated[float, Field(gt=0), Tuned(0.001, 0.03, log=True)] = Field(
        description="the highest of the one-cycle schedule, for batches of 128 or more; less for smaller, in proportion"
    )
    weight_decay: Annotated[float, Field(ge=0), Tuned(0.01, 1.0, log=True)] = Field(
        description="of matrices; gains and biases do not decay"
    )
    warmup_fraction: Annotated[Fraction, Tuned(0.05, 0.5)] = Field(
        description="of the batches, during which the learning rate rises"
    )
    backbone_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="of the learning rate, for a pretrained backbone"
    )
    backbone_frozen: Share = Field(
        0.2, description="of the epochs, the first ones, in which a pretrained backbone stays as it is"
    )
    widths: Annotated[Widths | Auto, OrAuto(Widths)] = Field(
        AUTO,
        description="channels of the convolutions of small; each halves the image; auto: by the size of the images",
    )
    embedding_size: Annotated[int, Field(ge=2)] = Field(description="numbers in an embedding")
    scale: Annotated[Scale | Auto, OrAuto(Scale), Tuned(8.0, 64.0, log=True)] = Field(
        AUTO,
        description="ArcFace's s; auto: 30 up to 32 grey pixels, else 16, since the larger learns few images by heart",
    )
    margin: Annotated[Margin | Auto, OrAuto(Margin), Tuned(0.1, 0.7)] = Field(
        AUTO,
        description="ArcFace's m, in radians; auto: 0.2 for small above 32 pixels or with colour, which it does not "
        "fit with 0.5; else 0.5",
    )
    flip: Annotated[bool | Auto, OrAuto(bool)] = Field(
        AUTO,
        description="augmentation: every second image is mirrored; auto: if the labels of validation images survive it",
    )
    rotation: Annotated[float, Field(ge=0, le=180), Tuned(0.0, 30.0)] = Field(
        description="augmentation: at most this many degrees"
    )
    translation: Annotated[Share, Tuned(0.0, 0.2)] = Field(
        description="augmentation: at most this fraction of the side"
    )
    zoom: Annotated[float, Field(ge=0, lt=1), Tuned(0.0, 0.3)] = Field(
        description="augmentation: at most this fraction of the size"
    )
    shear: Annotated[float, Field(ge=0, lt=1), Tuned(0.0, 0.3)] = Field(
        description="augmentation: at most this fraction of the side"
    )
    seed: Seed = Field(description="of weights, order and augmentation")
    in_memory_mb: Annotated[int, Field(ge=0), NoEffect()] = Field(
        description="a larger training split is read from disk, batch by batch; does not change the result"
    )

    def deciding(self) -> dict[str, Any]:
        """Likewise, without those that the network that is trained does not have."""
        others = {SMALL: _OF_A_BACKBONE, AUTO: ()}.get(self.backbone, _OF_SMALL)
        return {name: value for name, value in super().deciding().items() if name not in others}
