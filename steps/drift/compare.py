"""Compares two samples of answers: four tests, corrected for their number, each with the size of its effect.

A test says whether a difference is more than chance, and the size whether it matters. With many images the smallest
difference is significant, so both are asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from contract.loop.drift import Word
from contract.words import counted
from steps.drift.parameters import Drift
from steps.drift.sample import Buckets, Distances, Sample

_FEWEST = 10  # with fewer images there is nothing to see
_EXPECTED = 5.0  # images of a class, at least: rarer ones are taken together, as the chi-squared test needs it
_EXACT = 10**6  # pairs of images up to which the exact distribution of Kolmogorov and Smirnov is computed
_SHOWN = 3  # classes that changed most, in a sentence


@dataclass(frozen=True)
class Size:
    """A measure of an effect: its symbol; below `small` it does not matter, and from `large` on it does."""

    symbol: str
    small: float
    large: float


# The largest gap between two cumulative curves: at least this share of the images are other ones.
GAP = Size("D", 0.05, 0.25)
# Cohen, "Statistical Power Analysis for the Behavioral Sciences" (1988): half a small and a medium effect of two
# shares; a medium and a large one of many.
SHARE = Size("h", 0.1, 0.5)
SHARES = Size("w", 0.3, 0.5)


@dataclass(frozen=True)
class Finding:
    """One test.

    Attributes:
        name: What is compared.
        test: Of the test images, in words.
        served: Of what was served, in words.
        p: The chance of such a difference without drift, corrected for the number of tests.
        effect: Its size.
        size: What its size is measured in.
        better: Whether the served images are nearer to the gallery than those of test; then no training helps.
        word: What it says alone.
        why: A part of a sentence.
    """

    name: str
    test: str
    served: str
    p: float
    effect: float
    size: Size
    why: str
    better: bool = False
    word: Word = Word.NONE


@dataclass(frozen=True)
class Comparison:
    """What the tests say together: a word, and why in a sentence."""

    word: Word
    why: str
    findings: tuple[Finding, ...]
    images: int


def compare(test: Sample, served: Sample, parameters: Drift) -> Comparison:
    """Compare what is served with what analyse saw on test.

    Args:
        test: The answers to the test images.
        served: The answers that were served.
        parameters: The section `drift` of `params.yaml`.

    Returns:
        The comparison: `none`; `watch` where a difference is significant, but small, or of few images, or of a kind
        that no training mends; or `retrain`.
    """
    if served.images < _FEWEST or test.images < _FEWEST:
        few = (
            f"only {counted(served.images, 'image')} were served"
            if served.images < _FEWEST
            else "test has too few images"
        )
        return Comparison(Word.NONE, f"{few}, and {_FEWEST} are needed to see anything", (), served.images)
    findings = tuple(_judged(list(_tests(test, served, parameters)), served.images, parameters))
    word = max(finding.word for finding in findings)
    return Comparison(word, _why(word, findings, served.images, parameters), findings, served.images)


def holm(values: Sequence[float]) -> list[float]:
    """Correct p-values for their number.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979).

    Args:
        values: The p-values.

    Returns:
        Of each the corrected value: the smallest chance of any false alarm at which it would be rejected.
    """
    largest, corrected = 0.0, [0.0] * len(values)
    for rank, row in enumerate(np.argsort(values)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[row]))
        corrected[row] = largest
    return corrected


def _tests(test: Sample, served: Sample, parameters: Drift) -> Iterator[Finding]:
    assert not isinstance(test.distances, Buckets)  # noqa: S101 - only metrics of a server are histograms
    yield _distances("distance", "to the gallery", test.distances, served.distances)
    if test.features_distances is not None and served.features_distances is not None:
        yield _distances("features distance", "of features", test.features_distances, served.features_distances)
    yield _unknown(test, served)
    if parameters.classes and (found := _classes(test.classes, served.classes)):
        yield found


def _judged(findings: Sequence[Finding], images: int, parameters: Drift) -> Iterator[Finding]:
    for finding, p in zip(findings, holm([finding.p for finding in findings]), strict=True):
        word = Word.NONE
        if p < parameters.significance and finding.effect >= finding.size.small:
            sure = images >= parameters.min_images and not finding.better and finding.size is not SHARES
            word = Word.RETRAIN if sure and finding.effect >= finding.size.large else Word.WATCH
        yield replace(finding, p=p, word=word)


def _distances(name: str, which: str, test: Distances, served: Distances | Buckets) -> Finding:
    if isinstance(served, Buckets):
        counts = np.array(served.counts)
        own = np.histogram(test, [-np.inf, *(np.nextafter(edge, np.inf) for edge in served.edges), np.inf])[0]
        p = _chi_squared(own, counts)
        gaps = np.cumsum(own) / own.sum() - np.cumsum(counts) / counts.sum()
        gap = float(gaps[np.argmax(np.abs(gaps))])
        medians = [_median_of(served.edges, each) for each in (own, counts)]
    else:
        is_small = len(test) * len(served) <= _EXACT
        found = stats.ks_2samp(test, served, method="exact" if is_small else "asymp")
        p, gap = float(found.pvalue), float(found.statistic * found.statistic_sign)
        medians = [f"{np.median(each):.3f}" for each in (test, served)]
    # A gap above 0: more of the test images than of the served ones are as near as this.
    words = "larger" if gap > 0 else "smaller"
    why = f"the distances {which} are {words} than on test (median {medians[1]}, {medians[0]} on test)"
    shown = [f"median {median}" for median in medians]
    return Finding(name, shown[0], shown[1], p, abs(gap), GAP, why, better=gap < 0)


def _median_of(edges: Sequence[float], counts: NDArray[np.int64]) -> str:
    place = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    return f"at most {edges[place]:g}" if place < len(edges) else f"above {edges[-1]:g}"


def _unknown(test: Sample, served: Sample) -> Finding:
    table = np.array([[each.unknown, each.images - each.unknown] for each in (test, served)])
    shares = [each.unknown / each.images for each in (test, served)]
    h = 2 * float(np.arcsin(np.sqrt(shares[1])) - np.arcsin(np.sqrt(shares[0])))
    why = f"{shares[1]:.1%} are unknown ({shares[0]:.1%} on test)"
    p = float(stats.fisher_exact(table).pvalue)
    return Finding("unknown", f"{shares[0]:.1%}", f"{shares[1]:.1%}", p, abs(h), SHARE, why, better=h < 0)


def _classes(test: Mapping[str, int], served: Mapping[str, int]) -> Finding | None:
    """The shares of the classes; None where there are not two of them to compare."""
    names = sorted({*test, *served}, key=lambda name: (-test.get(name, 0), name))
    counts = np.array([[each.get(name, 0) for name in names] for each in (test, served)], np.int64)
    if len(names) < 2 or not counts.sum(axis=1).all():
        return None
    shares = counts / counts.sum(axis=1, keepdims=True)
    changed = np.argsort(-np.abs(shares[1] - shares[0]), kind="stable")[:_SHOWN]
    said = [", ".join(f"{names[row]} {share[row]:.1%}" for row in changed) for share in shares]
    merged = _merged(counts)
    if merged.shape[1] < 2:
        return None
    own, found = merged / merged.sum(axis=1, keepdims=True)
    w = float(np.sqrt(((found - own) ** 2 / np.maximum(own, 0.5 / merged[0].sum())).sum()))
    first = names[changed[0]]
    why = f"{shares[1][changed[0]]:.1%} are answered {first} ({shares[0][changed[0]]:.1%} on test)"
    return Finding("classes", said[0], said[1], _chi_squared(*merged), w, SHARES, why)


def _merged(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Two rows of counts [2, K], whose rare columns are added up to one."""
    rows, columns = counts.sum(axis=1), counts.sum(axis=0)
    rare = columns * rows.min() / counts.sum() < _EXPECTED
    if not rare.any():
        return counts
    rest = counts[:, rare].sum(axis=1, keepdims=True)
    return np.concatenate([counts[:, ~rare], rest], axis=1) if rest.sum() else counts[:, ~rare]


def _chi_squared(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """The p-value of the hypothesis that two rows of counts have the same shares."""
    table = _merged(np.array([one, other]))
    if table.shape[1] < 2:
        return 1.0
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def _why(word: Word, findings: Sequence[Finding], images: int, parameters: Drift) -> str:
    tests = f"{len(findings)} tests on {counted(images, 'image')}"
    if word is Word.NONE:
        significant = [finding for finding in findings if finding.p < parameters.significance]
        if significant:
            return f"{'; '.join(finding.why for finding in significant)}: too little to matter"
        return f"nothing differs from test more than by chance in {tests}"
    told = sorted((f for f in findings if f.word), key=lambda finding: (-finding.word, finding.p))
    reasons = "; ".join(f"{finding.why}, {finding.size.symbol} {finding.effect:.2f}" for finding in told)
    more = ""
    if word is Word.WATCH and images < parameters.min_images:
        more = f"; with {counted(images, 'image')} that is not sure yet"
    elif word is Word.WATCH and all(finding.size is SHARES for finding in told):
        more = "; that alone makes no answer wrong (drift.classes)"
    elif word is Word.WATCH and all(finding.better for finding in told if finding.size is not SHARES):
        more = "; are images of the gallery sent?"
    return reasons + more
