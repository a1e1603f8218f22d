"""What is trained: the network with its loss, as new, and the groups of its parameters. Reads pretrained weights."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from steps.common.images.dataset import Split
from steps.common.images.facts import mean_and_deviation
from steps.common.models.network import EmbeddingNetwork, Network
from steps.train.arcface import ArcFace
from steps.train.auto import Numbers
from steps.train.parameters import Train


class Learner(nn.Module):
    """Network and loss as one module, since DistributedDataParallel wraps one module.

    Args:
        network: The network.
        arcface: The loss.
        is_pretrained: Whether the body of the network was trained before.
    """

    def __init__(self, network: EmbeddingNetwork, arcface: ArcFace, *, is_pretrained: bool) -> None:
        super().__init__()
        self.network = network
        self.arcface = arcface
        self._is_pretrained = is_pretrained

    @property
    def pretrained(self) -> set[nn.Parameter]:
        """The parameters that were trained before."""
        return set(self.network.body.parameters()) if self._is_pretrained else set()

    def freeze(self, frozen: bool) -> None:
        """Leave what was trained before as it is; or train it too, but for the statistics by which it normalises.

        Those of its own many images are better than those of small batches.
        """
        if self._is_pretrained:
            self.network.body.requires_grad_(not frozen)
            self.network.body.eval()

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of images float32 [N, H, W, C] with labels int64 [N]."""
        loss: torch.Tensor = self.arcface(self.network(images), labels)
        return loss


def new_learner(split: Split, parameters: Train, chosen: Numbers, weights: Path | None) -> Learner:
    """The network before its first epoch.

    Args:
        split: What it is trained on.
        parameters: The section `train` of `params.yaml`.
        chosen: What was `auto` in it: the channels of the convolutions of `small`, ArcFace's scale and margin.
        weights: The file of its backbone's pretrained weights; None for `small`.

    Returns:
        The network with its loss, its weights drawn as far as they were not trained before.

    Raises:
        StepError: There is no such backbone, or the weights are not its.
    """
    torch.manual_seed(parameters.seed)
    height, width, channels = split.images.shape[1:]
    size = parameters.embedding_size
    network: EmbeddingNetwork
    if weights:
        network = _on_a_backbone(parameters, channels, height, weights)
    else:
        network = Network(channels, chosen.widths, size)
        mean, deviation = mean_and_deviation(split.images.facts, height * width, channels)
        network.mean.copy_(torch.from_numpy(mean))
        network.std.copy_(torch.from_numpy(deviation).clamp(min=1))
    arcface = ArcFace(len(split.classes), size, chosen.scale, chosen.margin)
    return Learner(network, arcface, is_pretrained=weights is not None)


def _on_a_backbone(parameters: Train, channels: int, side: int, weights: Path) -> EmbeddingNetwork:
    from steps.common.errors import StepError
    from steps.common.models.backbone import Backbone, load_pretrained, side_for

    name = parameters.backbone
    try:
        network = Backbone(channels, name, side_for(name, side), parameters.embedding_size)
    except ValueError as error:
        raise StepError(f"train.backbone: {error}") from error
    load_pretrained(network, weights)
    return network


def groups(learner: Learner, parameters: Train, rate: float) -> list[dict[str, Any]]:
    """The parameters in groups, for AdamW.

    Matrices alone decay: decay of gains and biases costs accuracy. What was trained before learns at a lower rate.

    Args:
        learner: Network and loss.
        parameters: The section `train` of `params.yaml`.
        rate: The highest learning rate.

    Returns:
        Groups with `params`, `lr` and `weight_decay`.
    """
    slow = learner.pretrained
    rates = {False: rate, True: rate * parameters.backbone_rate}
    found = []
    for is_slow in (False, True):
        tensors = [tensor for tensor in learner.parameters() if (tensor in slow) == is_slow]
        for decay, of in ((parameters.weight_decay, True), (0.0, False)):
            chosen = [tensor for tensor in tensors if (tensor.ndim > 1) == of]
            if chosen:
                found.append({"params": chosen, "lr": rates[is_slow], "weight_decay": decay})
    return found
