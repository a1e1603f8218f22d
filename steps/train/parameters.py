"""The parameters of train: the section `train` of `params.yaml`."""

from typing import Annotated, Any

from pydantic import Field

from steps.common.parameters import AUTO, SMALL, Count, Fraction, NoEffect, Pretrained, Seed, Share, Tuned

_OF_SMALL = ("widths",)
_OF_A_BACKBONE = ("backbone_rate", "backbone_frozen")


class Train(Pretrained, extra="forbid"):
    """The network, its loss, its schedule and its augmentation."""

    epochs: Count = Field(description="passes over the training split")
    batch_size: Annotated[int, Field(ge=2)] = Field(description="images in a batch, over all GPUs together")
    learning_rate: Annotated[float, Field(gt=0), Tuned(0.001, 0.03, log=True)] = Field(
        description="the highest of the one-cycle schedule"
    )
    weight_decay: Annotated[float, Field(ge=0), Tuned(0.01, 1.0, log=True)] = Field(
        description="of matrices; gains and biases do not decay"
    )
    warmup_fraction: Annotated[Fraction, Tuned(0.05, 0.5)] = Field(
        description="of the batches, during which the learning rate rises"
    )
    widths: Annotated[list[Count], Field(min_length=1, max_length=8)] = Field(
        description="channels of the convolutions of small; each halves the image"
    )
    backbone_rate: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="of the learning rate, for a pretrained backbone"
    )
    backbone_frozen: Share = Field(
        0.2, description="of the epochs, the first ones, in which a pretrained backbone stays as it is"
    )
    embedding_size: Annotated[int, Field(ge=2)] = Field(description="numbers in an embedding")
    scale: Annotated[float, Field(gt=0), Tuned(12.0, 64.0, log=True)] = Field(description="ArcFace's s")
    margin: Annotated[float, Field(ge=0, lt=1.5), Tuned(0.1, 0.7)] = Field(description="ArcFace's m, in radians")
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
