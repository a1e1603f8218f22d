"""Drift: an alarm for what differs and matters, and none for chance, for trifles, or for one image sent often."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from contract.loop.drift import Word
from steps.drift.compare import GAP, SHARE, compare, holm
from steps.drift.parameters import Drift
from steps.drift.sample import FARTHEST, MOST, Buckets, Sample, served
from tests.support.drifting import CLASSES, VERSION, records, sample

DRIFT = Drift()
TRIALS = 40
NOW = datetime.now(UTC) + timedelta(minutes=1)


def words(test: int, count: int, **change: object) -> list[Word]:
    draw = np.random.default_rng(0)
    return [
        compare(sample(draw, test), sample(draw, count, **change), DRIFT).word  # type: ignore[arg-type]
        for _ in range(TRIALS)
    ]


@pytest.mark.parametrize("count", [100, 500])
def test_images_like_those_of_test_raise_no_alarm(count: int) -> None:
    assert sum(map(bool, words(400, count))) <= 2  # a false alarm in a hundred, by drift.significance


@pytest.mark.parametrize(
    ("change", "word"),
    [({"scale": 1.6}, Word.RETRAIN), ({"unknown": 0.2}, Word.RETRAIN), ({"scale": 1.3}, Word.WATCH)],
)
def test_other_images_are_noticed(change: dict[str, float], word: Word) -> None:
    assert np.median(words(400, 400, **change)) == word


def test_a_class_six_times_as_frequent_is_watched_and_can_be_expected() -> None:
    draw, shares = np.random.default_rng(0), np.full(CLASSES, 1.0)
    shares[3] = 6
    test, found = sample(draw, 1000), sample(draw, 500, shares=shares / shares.sum())
    comparison = compare(test, found, DRIFT)
    assert comparison.word is Word.WATCH
    assert "are answered 3 (" in comparison.why
    assert "drift.classes" in comparison.why
    assert compare(test, found, Drift(classes=False)).word is Word.NONE


def test_a_difference_too_small_to_matter_is_none_however_sure() -> None:
    draw = np.random.default_rng(0)
    comparison = compare(sample(draw, 10_000), sample(draw, 5000, scale=1.06), DRIFT)
    assert comparison.word is Word.NONE
    assert comparison.findings[0].p < DRIFT.significance
    assert "too little to matter" in comparison.why


def test_few_images_say_no_more_than_watch() -> None:
    draw = np.random.default_rng(0)
    test = sample(draw, 500)
    comparison = compare(test, sample(draw, 60, scale=4, unknown=0.5), DRIFT)
    assert comparison.word is Word.WATCH
    assert "with 60 images that is not sure yet" in comparison.why
    comparison = compare(test, sample(draw, 9, scale=4), DRIFT)
    assert (comparison.word, comparison.findings) == (Word.NONE, ())
    assert comparison.why.startswith("only 9 images were served")


def test_images_nearer_than_those_of_test_need_no_training() -> None:
    draw = np.random.default_rng(0)
    comparison = compare(sample(draw, 500), sample(draw, 500, scale=0.2), DRIFT)
    assert comparison.word is Word.WATCH
    assert "smaller than on test" in comparison.why
    assert "are images of the gallery sent?" in comparison.why


def test_tests_and_sizes_are_those_of_scipy_and_cohen() -> None:
    draw = np.random.default_rng(0)
    test, found = sample(draw, 300), sample(draw, 200, scale=1.2, unknown=0.1)
    distance, features, unknown, classes = compare(test, found, DRIFT).findings
    expected = [stats.ks_2samp(test.distances, found.distances).pvalue]
    expected += [stats.ks_2samp(test.features_distances, found.features_distances).pvalue]
    shares = [each.unknown / each.images for each in (test, found)]
    expected += [
        stats.fisher_exact(np.array([[each.unknown, each.images - each.unknown] for each in (test, found)])).pvalue
    ]
    table = np.array([[each.classes[str(label)] for label in range(CLASSES)] for each in (test, found)])
    expected += [stats.chi2_contingency(table, correction=False).pvalue]
    assert [each.p for each in (distance, features, unknown, classes)] == pytest.approx(holm(expected))
    assert unknown.effect == pytest.approx(2 * np.diff(np.arcsin(np.sqrt(shares)))[0])
    assert (distance.size, unknown.size) == (GAP, SHARE)
    gap = stats.ks_2samp(test.distances, found.distances).statistic
    assert distance.effect == pytest.approx(gap)


def test_p_values_are_corrected_for_their_number() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # worked by hand


def test_rare_classes_are_compared_together() -> None:
    many = {str(label): 1 for label in range(300)}
    test = Sample({**many, "often": 300}, np.linspace(0, 1, 600))
    found = Sample({**{f"new{label}": 1 for label in range(300)}, "often": 300}, np.linspace(0, 1, 600))
    assert compare(test, found, DRIFT).word is Word.NONE
    other = compare(test, Sample({"often": 100}, np.linspace(0, 1, 100)), DRIFT)
    assert other.word is Word.WATCH


def test_a_model_without_features_and_one_class_can_be_compared() -> None:
    one = Sample({"a": 200}, np.linspace(0, 1, 200))
    assert [each.name for each in compare(one, one, DRIFT).findings] == ["distance", "unknown"]


def test_a_histogram_is_compared_in_its_buckets() -> None:
    draw = np.random.default_rng(0)
    test, edges = sample(draw, 1000), (0.01, 0.02, 0.05, 0.1)
    for scale, word in ((1.0, Word.NONE), (2.0, Word.RETRAIN)):
        found = sample(draw, 500, scale=scale)
        counts = np.histogram(np.asarray(found.distances), [0, *edges, np.inf])[0]
        coarse = Sample(found.answers, Buckets(edges, tuple(counts.tolist())))
        assert compare(test, coarse, DRIFT).word is word


def test_only_random_images_of_the_version_and_of_the_last_days_count() -> None:
    kept = [("7", 0.1, 0.2), ("unknown", None, 0.3)]
    found = [*records(kept), *records(kept, random=False), *records(kept, version="other")]
    found += records(kept, time=(NOW - timedelta(days=8)).isoformat())
    found += records(kept, time="yesterday")
    got, since = served(found, VERSION, 7, NOW)
    assert got.answers == {"7": 1, "unknown": 1}
    assert sorted(np.asarray(got.distances).tolist()) == [0.1, FARTHEST]
    assert since is not None
    nothing, none = served([], VERSION, 7, NOW)
    assert (nothing.images, none) == (0, None)


def test_of_many_images_the_newest_count() -> None:
    begin = NOW - timedelta(days=1)
    found = [
        next(iter(records([(str(row % 3), 0.1, None)], time=(begin + timedelta(seconds=row)).isoformat())))
        for row in range(MOST + 10)
    ]
    got, since = served(found, VERSION, 7, NOW)
    assert got.images == MOST
    assert since == begin + timedelta(seconds=10)
    assert got.features_distances is None
