"""Batch normalisation over the images of all processes: a batch that is shared out is normalised as one."""

from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all processes, and in the other direction that of its gradient."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


class SyncedBatchNorm(_BatchNorm):
    """Normalises by mean and variance over all processes, on processors as on GPUs; torch's own is for GPUs alone."""

    @classmethod
    def of(cls, single: _BatchNorm) -> "SyncedBatchNorm":
        """One with the parameters of `single`, and the dropout and activation that timm's have."""
        new = cls(single.num_features, single.eps, single.momentum, single.affine, single.track_running_stats)
        new.weight, new.bias = single.weight, single.bias
        new.running_mean, new.running_var = single.running_mean, single.running_var
        new.num_batches_tracked = single.num_batches_tracked
        for name, child in single.named_children():
            new.add_module(name, child)
        return new.train(single.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise [N, C, ...], in evaluation by the running mean and variance."""
        normal = self._by_all(input) if self.training else super().forward(input)
        for child in self.children():
            normal = child(normal)
        return normal

    def _by_all(self, input: torch.Tensor) -> torch.Tensor:
        mean, variance = cast(torch.Tensor, self.running_mean), cast(torch.Tensor, self.running_var)
        shape = (1, -1, *[1] * (input.dim() - 2))
        axes = [axis for axis in range(input.dim()) if axis != 1]
        # Sums over all processes in one exchange; about the running mean, which keeps small variances.
        centred = input.float() - mean.view(shape)
        count = centred.new_tensor([centred.numel() / self.num_features])
        own = torch.cat([centred.sum(axes), centred.square().sum(axes), count])
        sums: torch.Tensor = _Sum.apply(own)  # type: ignore[no-untyped-call]  # torch's lacks types
        total = sums[-1].detach()
        shift, square = (sums[:-1] / total).chunk(2)
        spread = (square - shift.square()).clamp(min=0)
        with torch.no_grad():
            share = cast(float, self.momentum)
            mean += share * shift
            variance += share * (spread * total / (total - 1) - variance)
            cast(torch.Tensor, self.num_batches_tracked).add_(1)
        normal = (centred - shift.view(shape)) * torch.rsqrt(spread + self.eps).view(shape)
        scaled: torch.Tensor = normal * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Of any number of dimensions."""


def sync(module: nn.Module) -> None:
    """Replace each batch normalisation within a module by one over all processes, with the same parameters."""
    for name, child in list(module.named_children()):
        if isinstance(child, _BatchNorm):
            setattr(module, name, SyncedBatchNorm.of(child))
        else:
            sync(child)
