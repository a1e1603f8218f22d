"""The embedding network; this file travels with the weights, so whatever loads them needs no other definition.

Reads `network.json` and `weights.safetensors` in its folder. Imports nothing of this project.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

_POOLED = 3  # the last feature map is pooled to 3 x 3, so that any image size fits the linear layer


class Network(nn.Module):
    """Convolutions that each halve the image, then one linear layer to the embedding."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, channels: int, widths: Sequence[int], embedding_size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        layers: list[nn.Module] = []
        # Each stage halves the image before it is normalised and rectified; the first, the largest, by its stride.
        stages: list[list[nn.Module]] = [[nn.Conv2d(channels, widths[0], 5, stride=2, padding=2, bias=False)]]
        for before, width in pairwise(widths):
            stages.append([nn.Conv2d(before, width, 3, padding=1, bias=False), nn.MaxPool2d(2)])
        for stage, width in zip(stages, widths, strict=True):
            layers += [*stage, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers += [nn.AdaptiveAvgPool2d(_POOLED), nn.Flatten()]
        layers += [nn.Linear(widths[-1] * _POOLED**2, embedding_size, bias=False), nn.BatchNorm1d(embedding_size)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings float32 [N, D] of length one, of images [N, H, W, C] with values from 0 to 255, uint8 or float.

        Normalisation by the training pixels' mean and standard deviation happens here, so no caller can forget it.
        """
        # Channels first before anything else: ONNX Runtime broadcasts along the last axis, however short it is.
        pixels = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        embeddings = self.layers((pixels - self.mean[:, None, None]) / self.std[:, None, None])
        return nn.functional.normalize(embeddings.float())


def load(folder: Path) -> Network:
    """The network in this folder, in evaluation mode, on the CPU."""
    network = Network(**json.loads((folder / "network.json").read_text()))
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network.eval()
