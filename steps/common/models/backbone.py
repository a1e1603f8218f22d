"""Networks on a backbone of timm: reads pretrained weights, which are safetensors; writes nothing.

Importing this module imports timm, which only a network on a backbone needs.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from steps.common.errors import StepError
from steps.common.models.network import EmbeddingNetwork, embedding_layer
from steps.common.models.torchvision_ops import declare_missing

declare_missing()

import timm  # noqa: E402 - it imports torchvision

_LEAST_SIDE = 128  # to which smaller images are enlarged: a backbone that halves them five times sees 4 x 4 then
_GREATEST_SIDE = 2048
# Of the features, in training: of frozen ones of 1,372 emoji it made 0.689 of 0.663 for the nearest neighbour.
_DROPPED = 0.3


class Backbone(EmbeddingNetwork):
    """A network of timm without its classifier, then dropout and a linear layer to the embedding.

    Mean and standard deviation are those that the backbone was pretrained with.

    Args:
        channels: Of the images: 1 or 3. Grey ones are repeated, since a backbone takes colours.
        backbone: Its name in timm, with the tag of its weights.
        side: To which images are enlarged, in pixels; of `side_for`.
        embedding_size: The length D of an embedding.

    Raises:
        ValueError: timm has no such network, or the side is none.
    """

    def __init__(self, channels: int, backbone: str, side: int, embedding_size: int) -> None:
        config = {"channels": channels, "backbone": backbone, "side": side, "embedding_size": embedding_size}
        super().__init__(3, config)
        if not isinstance(backbone, str) or not 0 < side <= _GREATEST_SIDE:  # read from a file that may be damaged
            raise ValueError(f"backbone {backbone!r} and side {side!r} must be a name, and 1 to {_GREATEST_SIDE}")
        published = published_config(backbone)
        self.mean.copy_(torch.tensor(published["mean"]) * 255)
        self.std.copy_(torch.tensor(published["std"]) * 255)
        self.side = side
        # Not on the device "meta", as some of timm's networks compute values when they are built.
        with torch.device("cpu"):
            body: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
            layer = embedding_layer(body.head_hidden_size, embedding_size)
        self.embedding = nn.Sequential(nn.Dropout(_DROPPED), *layer)
        self.body = body

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the backbone's classifier read."""
        pixels = self.normalised(images)
        if pixels.shape[-1] != self.side:
            pixels = nn.functional.interpolate(pixels, (self.side, self.side), mode="bilinear", align_corners=False)
        features: torch.Tensor = self.body(pixels)
        return features

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """A linear map of the features."""
        embeddings: torch.Tensor = self.embedding(features)
        return embeddings


def published_config(backbone: str) -> Mapping[str, Any]:
    """What timm says of a pretrained backbone: its input size, mean, standard deviation, licence and more.

    Args:
        backbone: Its name in timm.

    Returns:
        timm's configuration.

    Raises:
        ValueError: timm has no such network.
    """
    try:
        found = timm.get_pretrained_cfg(backbone)
    except RuntimeError:
        found = None
    if found is None or not timm.is_model(backbone):
        like = difflib.get_close_matches(backbone, timm.list_models(pretrained=True), n=3)
        raise ValueError(f"timm has no network {backbone!r}" + (f"; it has {', '.join(like)}" if like else ""))
    return vars(found)


def side_for(backbone: str, image_size: int) -> int:
    """The pixels a side that a backbone gets.

    Args:
        backbone: Its name in timm.
        image_size: Pixels a side of the images.

    Returns:
        Its own size if it takes no other. Else that of the images, but at least 128 or its own size, if that is less.
    """
    published = published_config(backbone)
    own = int(published["input_size"][-1])
    if published["fixed_input_size"]:
        return own
    return max(image_size, min(own, _LEAST_SIDE))


def load_pretrained(network: Backbone, weights: Path) -> None:
    """Give a network's backbone pretrained weights; those of the classifier are left out.

    Args:
        network: The network.
        weights: Its backbone's weights as timm publishes them, a safetensors file.

    Raises:
        StepError: The file holds no weights, or those of another network.
    """
    classifier = published_config(network.config["backbone"])["classifier"]
    prefixes = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    try:
        found = load_file(weights)
        body = {name: tensor for name, tensor in found.items() if not name.startswith(tuple(f"{p}." for p in prefixes))}
        kinds = {name: tensor.dtype for name, tensor in network.body.state_dict().items()}
        network.body.load_state_dict({name: each.to(kinds.get(name, each.dtype)) for name, each in body.items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise StepError(
            f"{weights} does not hold the weights of timm's {network.config['backbone']} ({reason}): name those in "
            "train.backbone_url"
        ) from error
