"""In which order an epoch takes the training images, and how often each: reads and writes nothing."""

import torch

IMBALANCED = 3.0  # the largest class to the smallest, from which on `auto` samples by the square root of a class's size
SQUARE_ROOT, AS_THEY_ARE = 0.5, 1.0


def power_for(counts: torch.Tensor) -> float:
    """The power of a class's size by which it is drawn, for classes of these sizes, int64 [classes] above 0."""
    return SQUARE_ROOT if bool(counts.max() >= IMBALANCED * counts.min()) else AS_THEY_ARE


def epoch_rows(labels: torch.Tensor, power: float, generator: torch.Generator) -> torch.Tensor:
    """The rows of an epoch: as many as there are images, in random order.

    A class of n images gets a share of the epoch in proportion to n to the power. Of a class each image comes as often
    as any other, or once more.

    Args:
        labels: int64 [N], on the processor.
        power: 1 takes every image once; 0.5 draws classes by the square root of their sizes, 0 all alike.
        generator: Draws the order.

    Returns:
        int64 [N].
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    if power == AS_THEY_ARE:
        return shuffled
    counts = torch.bincount(labels).double()
    weights = (counts ** (power - 1))[labels[shuffled]]
    # Steps of one from a random start, on a line on which each image is as long as it is to come often.
    ends = (weights / weights.sum() * len(labels)).cumsum(0)
    places = torch.arange(len(labels)) + torch.rand(1, generator=generator, dtype=torch.float64)
    rows = shuffled[torch.searchsorted(ends, places).clamp(max=len(labels) - 1)]
    return rows[torch.randperm(len(rows), generator=generator)]
