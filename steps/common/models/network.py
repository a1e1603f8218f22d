"""The architecture of the embedding network; reads and writes no files.

Every step builds it from this module of its own image, so a network that was stored by another architecture cannot be
loaded. What is served was exported to ONNX, and needs no code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

_POOLED = 3  # the last feature map is pooled to 3 x 3, so that any image size fits the linear layer


class Network(nn.Module):
    """Convolutions that each halve the image, and are pooled to features; then a linear layer to the embedding.

    Args:
        channels: Of the images: 1 or 3.
        widths: The channels of each convolution.
        embedding_size: The length D of an embedding.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int, widths: Sequence[int], embedding_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        layers: list[nn.Module] = []
        # Each stage halves the image before normalisation and ReLU: the first by its stride, which is cheapest.
        stages: list[list[nn.Module]] = [[nn.Conv2d(channels, widths[0], 5, stride=2, padding=2, bias=False)]]
        for before, width in pairwise(widths):
            stages.append([nn.Conv2d(before, width, 3, padding=1, bias=False), nn.MaxPool2d(2)])
        for stage, width in zip(stages, widths, strict=True):
            layers += [*stage, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(_POOLED), nn.Flatten())
        linear = nn.Linear(widths[-1] * _POOLED**2, embedding_size, bias=False)
        self.embedding = nn.Sequential(linear, nn.BatchNorm1d(embedding_size))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images.

        Args:
            images: [N, H, W, C], uint8 or float, with values from 0 to 255.

        Returns:
            Embeddings float32 [N, D] of length one.
        """
        return nn.functional.normalize(self.embed(self.features(images)).float())

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """What the embedding layer reads of images, which are normalised by mean and deviation of the training pixels.

        Args:
            images: [N, H, W, C], uint8 or float, with values from 0 to 255.

        Returns:
            Pooled features [N, F].
        """
        # Channels first: ONNX Runtime vectorises along the last axis, and is slow if that has one or three values.
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        features: torch.Tensor = self.body((pixels - self.mean[:, None, None]) / self.std[:, None, None])
        return features

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """The embeddings [N, D] of features [N, F], not yet of length one."""
        embeddings: torch.Tensor = self.embedding(features)
        return embeddings
