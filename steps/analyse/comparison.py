"""Compares two models on the same images, from numbers alone: reads and writes nothing."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from steps.common.statistics.interval import Interval, Z


class Result(StrEnum):
    """What a comparison shows of the challenger."""

    BETTER = "better"
    EQUAL = "equal"
    WORSE = "worse"


@dataclass(frozen=True)
class Comparison:
    """The discordant counts of two models on the same images, and what they show."""

    images: int
    only_challenger: int
    only_champion: int
    result: Result
    p_value: float
    difference: float
    interval: Interval


def compare(challenger: NDArray[np.bool_], champion: NDArray[np.bool_], significance: float) -> Comparison:
    """Hold two models' answers to the same images against each other by McNemar's exact test, one-sided each way.

    Only images that one model alone answers rightly count: were the two equal, each would have a fair coin's share of
    them (McNemar, "Note on the sampling error of the difference between correlated proportions", 1947).

    Args:
        challenger: Whether each image is answered rightly, bool [N].
        champion: Likewise, bool [N], in the same order.
        significance: The greatest chance to call equal models better, and likewise worse.

    Returns:
        The counts, the result with its p-value, and the difference of accuracies with its interval.
    """
    gained = int((challenger & ~champion).sum())
    lost = int((champion & ~challenger).sum())
    better, worse = heads(gained, gained + lost), heads(lost, gained + lost)
    result = Result.EQUAL
    if better <= significance:
        result = Result.BETTER
    elif worse <= significance:
        result = Result.WORSE
    count = len(challenger)
    difference = (gained - lost) / count if count else 0.0
    return Comparison(
        count, gained, lost, result, min(better, worse), difference, _interval_of_difference(gained, lost, count)
    )


def heads(least: int, tosses: int) -> float:
    """The chance of at least so many heads in tosses of a fair coin: the upper tail of the binomial distribution.

    It is the sum of the binomial coefficients C(n, k) for k from `least` to n, over 2^n, in whole numbers.

    Args:
        least: The fewest heads, from 0 to `tosses`.
        tosses: The number of tosses.

    Returns:
        The chance, exact but for the rounding of the result.
    """
    if 2 * least <= tosses:  # the shorter sum: by symmetry, fewer heads are as likely as more than so many tails
        return ((1 << tosses) - _coefficients(tosses - least + 1, tosses)) / (1 << tosses)
    return _coefficients(least, tosses) / (1 << tosses)


def _coefficients(first: int, count: int) -> int:
    """The sum of C(count, k) for k from `first` to `count`."""
    total, coefficient = 0, 1
    for k in range(count, first - 1, -1):
        total += coefficient
        coefficient = coefficient * k // (count - k + 1)
    return total


def _interval_of_difference(gained: int, lost: int, count: int) -> Interval:
    """The interval of the difference of two shares of the same images."""
    # Agresti & Min (2005), "Simple improved confidence intervals for comparing matched proportions": half an image is
    # added to each of the four cells.
    total, b, c = count + 2, gained + 0.5, lost + 0.5
    middle = (b - c) / total
    spread = Z * math.sqrt((b + c) - (b - c) ** 2 / total) / total
    return Interval(max(-1.0, middle - spread), min(1.0, middle + spread))
