"""Confidence intervals of shares, from numbers alone: reads and writes nothing."""

import math
from dataclasses import dataclass
from statistics import NormalDist

_CONFIDENCE = 0.95
# Python's own, since SciPy takes longer to import than a verdict takes to make.
Z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)


@dataclass(frozen=True)
class Interval:
    """A 95 % confidence interval."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.4f} to {self.high:.4f}"


def wilson(right: int, count: int) -> Interval:
    """The Wilson score interval of a share: `right` of `count` (Wilson, "Probable inference", 1927)."""
    if not count:
        return Interval(0.0, 1.0)
    middle = (right + Z**2 / 2) / (count + Z**2)
    spread = Z * math.sqrt(right * (count - right) / count + Z**2 / 4) / (count + Z**2)
    # At either end the bound is the share itself, which rounding would miss.
    return Interval(middle - spread if right else 0.0, middle + spread if right < count else 1.0)
