"""How often the gate calls a challenger better, equal or worse than it is: simulated, beside what the binomial says.

Two models answer the same n images. On 4 % of the images one alone is right, and how these are shared makes the
difference of their accuracies. Each pair goes through the judging function of the gate.
"""

from collections import Counter

import numpy as np
from scipy.stats import binom

from steps.analyse.comparison import Result, compare

PAIRS = 1000
SIZES = (200, 1_000, 10_000)
DIFFERENCES = {"equal": 0.0, "1 point better": 0.01, "1 point worse": -0.01}
_DISCORDANT = 0.04
_SIGNIFICANCE = 0.05


def measure() -> list[tuple[str, str]]:
    """Rows of a size and a difference, and the share of each result, simulated and computed."""
    rng = np.random.default_rng(0)
    rows = [("the challenger is", ", ".join(Result) + "; in brackets what the binomial says")]
    for count in SIZES:
        for name, difference in DIFFERENCES.items():
            gains = (_DISCORDANT + difference) / 2
            found = Counter(_result(rng, count, gains) for _ in range(PAIRS))
            computed = _computed(count, gains)
            shares = ", ".join(f"{found[one] / PAIRS:.1%} ({computed[one]:.1%})" for one in Result)
            rows.append((f"{name}, {count:,} images", shares))
    return rows


def _result(rng: np.random.Generator, count: int, gains: float) -> Result:
    place = rng.random(count)
    gained, lost = place < gains, (place >= gains) & (place < _DISCORDANT)
    return compare(~lost, ~gained, _SIGNIFICANCE).result


def _computed(count: int, gains: float) -> dict[Result, float]:
    """The share of each result, summed over all numbers of discordant images."""
    better = worse = 0.0
    for discordant, chance in enumerate(binom.pmf(np.arange(count + 1), count, _DISCORDANT)):
        if chance < 1e-12 or not discordant:
            continue
        least = int(binom.isf(_SIGNIFICANCE, discordant, 0.5)) + 1  # the fewest gains that are significant
        share = gains / _DISCORDANT
        better += chance * float(binom.sf(least - 1, discordant, share))
        worse += chance * float(binom.sf(least - 1, discordant, 1 - share))
    return {Result.BETTER: better, Result.EQUAL: 1 - better - worse, Result.WORSE: worse}
