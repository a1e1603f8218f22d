"""The architectures of the embedding network; reads and writes no files.

Every step builds it from this module of its own image, so a network that was stored by another architecture cannot be
loaded. What is served was exported to ONNX, and needs no code.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

_POOLED = 3  # the last feature map is pooled to 3 x 3, so that any image size fits the linear layer


class EmbeddingNetwork(nn.Module):
    """Normalises images, makes features of them, and embeds the features.

    Args:
        channels: Of the pixels that are normalised.
        config: The arguments that make the same architecture, as JSON values.
    """

    mean: torch.Tensor
    std: torch.Tensor
    body: nn.Module  # makes the features; the part of a backbone that was trained before

    def __init__(self, channels: int, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = dict(config)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @abstractmethod
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The pooled features of images.

        Args:
            images: [N, H, W, C], uint8 or float, with values from 0 to 255.

        Returns:
            [N, F], what the embedding layer reads.
        """

    @abstractmethod
    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """The embeddings [N, D] of features [N, F], not yet of length one."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            images: [N, H, W, C], uint8 or float, with values from 0 to 255.

        Returns:
            Embeddings float32 [N, D] of length one.
        """
        return nn.functional.normalize(self.embed(self.features(images)).float())

    def normalised(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, H, W, C] as [N, C', H, W], by the network's mean and standard deviation."""
        # Channels first: ONNX Runtime vectorises along the last axis, and is slow if that has one or three values.
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        return (pixels - self.mean[:, None, None]) / self.std[:, None, None]


class Network(EmbeddingNetwork):
    """The network `small`: convolutions that each halve the image, then a linear layer to the embedding.

    Its mean and standard deviation are those of the training pixels.

    Args:
        channels: Of the images: 1 or 3.
        widths: The channels of each convolution.
        embedding_size: The length D of an embedding.
    """

    def __init__(self, channels: int, widths: Sequence[int], embedding_size: int) -> None:
        super().__init__(channels, {"channels": channels, "widths": list(widths), "embedding_size": embedding_size})
        layers: list[nn.Module] = []
        # Each stage halves the image before normalisation and ReLU: the first by its stride, which is cheapest.
        stages: list[list[nn.Module]] = [[nn.Conv2d(channels, widths[0], 5, stride=2, padding=2, bias=False)]]
        for before, width in pairwise(widths):
            stages.append([nn.Conv2d(before, width, 3, padding=1, bias=False), nn.MaxPool2d(2)])
        for stage, width in zip(stages, widths, strict=True):
            layers += [*stage, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(_POOLED), nn.Flatten())
        self.embedding = embedding_layer(widths[-1] * _POOLED**2, embedding_size)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last feature map, pooled to 3 x 3."""
        features: torch.Tensor = self.body(self.normalised(images))
        return features

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """A linear map of the features."""
        embeddings: torch.Tensor = self.embedding(features)
        return embeddings


def embedding_layer(features: int, embedding_size: int) -> nn.Sequential:
    """A linear layer from F features to D numbers, and their normalisation over the batch."""
    return nn.Sequential(nn.Linear(features, embedding_size, bias=False), nn.BatchNorm1d(embedding_size))
