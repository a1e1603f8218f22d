"""The ArcFace loss: Deng et al., ArcFace: Additive Angular Margin Loss, arXiv:1801.07698, equation 3."""

import math

import torch
from torch import nn
from torch.nn import functional


class ArcFace(nn.Module):
    """Cross-entropy of scaled cosines to the classes' centres, with a margin added to the angle to the true centre.

    Args:
        classes: How many classes there are.
        embedding_size: The length D of an embedding.
        scale: The paper's s.
        margin: The paper's m, in radians.
    """

    def __init__(self, classes: int, embedding_size: int, scale: float, margin: float) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, embedding_size) / math.sqrt(embedding_size))
        self.scale = scale
        self.margin = margin

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return cosines float32 [N, classes] between embeddings [N, D] of length one and the classes' centres."""
        with torch.autocast(embeddings.device.type, enabled=False):  # it would round cosines to bfloat16
            return functional.linear(embeddings.float(), functional.normalize(self.centres.float()))

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of embeddings [N, D] of length one with labels int64 [N]."""
        cosines = self.cosines(embeddings)
        true = cosines.gather(1, labels[:, None])
        # cos(t + m) = cos t cos m - sin t sin m; the floor under the root keeps its gradient finite at t = 0.
        sines = torch.sqrt((1 - true.square()).clamp(min=1e-6))
        widened = true * math.cos(self.margin) - sines * math.sin(self.margin)
        # Beyond t = pi - m the cosine rises again: continue linearly, as the paper's authors do.
        past = true < math.cos(math.pi - self.margin)
        widened = torch.where(past, true - self.margin * math.sin(self.margin), widened)
        return functional.cross_entropy(self.scale * cosines.scatter(1, labels[:, None], widened), labels)
