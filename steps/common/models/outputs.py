"""A network with its two outputs, as which it embeds images here, or is served: reads and writes no files."""

import torch
from torch import nn

from steps.common.models.network import EmbeddingNetwork

_TINY = 1e-12  # instead of a length of zero


class Outputs(nn.Module):
    """Embeddings and features from one pass of a network.

    Args:
        network: The network.
    """

    def __init__(self, network: EmbeddingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See images uint8 [N, H, W, C]: embeddings [N, D] and rooted features [N, F], all of length one."""
        features = self.network.features(images)
        return nn.functional.normalize(self.network.embed(features).float()), rooted(features.float())


class Served(nn.Module):
    """A network as it is served: of features it gives only their distance from the nearest known ones.

    It computes what `Outputs` and a `FeaturesIndex` do, in fewer operations: each takes time where one image is asked.

    Args:
        network: The network.
        axes: The matrix float32 [F, K] of the index.
        known: Its matrix float32 [K, M].
        is_signed: Whether features may be negative.
    """

    def __init__(self, network: EmbeddingNetwork, axes: torch.Tensor, known: torch.Tensor, *, is_signed: bool) -> None:
        super().__init__()
        self.network = network
        self.axes, self.known = nn.Buffer(axes), nn.Buffer(known)
        self.is_signed = is_signed

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See images uint8 [N, H, W, C]: embeddings [N, D] of length one, and distances of features [N]."""
        features = self.network.features(images)
        embeddings = self.network.embed(features).float()
        lengths = features.float().abs() if self.is_signed else features.float()
        roots = lengths.sqrt() * features.sign() if self.is_signed else lengths.sqrt()
        similarities = ((roots @ self.axes) @ self.known).amax(dim=1) / lengths.sum(dim=1).clamp(min=_TINY).sqrt()
        return embeddings / embeddings.norm(dim=1, keepdim=True).clamp(min=_TINY), 1 - similarities


def rooted(features: torch.Tensor) -> torch.Tensor:
    """The square roots of features, each with its sign, at length one.

    Their cosines are then those of Hellinger's kernel, in which a few large numbers do not outweigh all others:
    Arandjelović & Zisserman, "Three things everyone should know to improve object retrieval" (CVPR 2012).

    Args:
        features: float32 [N, F].

    Returns:
        float32 [N, F], each of length one, or zero.
    """
    return nn.functional.normalize(features.sign() * features.abs().sqrt())
