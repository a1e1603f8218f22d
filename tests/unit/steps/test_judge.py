"""The verdict: each rule at its limit, paired comparison, ties, classes that come and go, and chance."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from steps.analyse.comparison import Result, compare, heads
from steps.analyse.judge import Answers, Champion, Verdict, judge
from steps.analyse.parameters import Gate
from steps.common.statistics.interval import wilson


def limits(**change: Any) -> Gate:
    return Gate(**{"baseline": 0.8, "worst_class_floor": 0.5, **change})


def answers(right: Any, labels: list[str] | None = None, classes: str = "ab", unknown: Any = None) -> Answers:
    found = np.array(right, bool)
    labels = labels or [classes[i % len(classes)] for i in range(len(found))]
    none = np.zeros(len(found), bool)
    return Answers(labels, found, none if unknown is None else np.array(unknown, bool), frozenset(classes))


def champion(right: Any, *, fair: Any = None, classes: str = "ab", fresh: int | None = 0) -> Champion:
    found = np.array(right, bool)
    return Champion(
        "v1", found, np.ones(len(found), bool) if fair is None else np.array(fair, bool), frozenset(classes), fresh
    )


def right(of: int, wrong: int = 0) -> list[bool]:
    return [i >= wrong for i in range(of)]


def broken(verdict: Verdict) -> list[str]:
    return [rule.name for rule in verdict.rules if not rule.passed]


def test_a_good_model_passes_where_nothing_is_served() -> None:
    verdict = judge(answers(right(100, 5)), None, limits())
    assert (verdict.better, verdict.accuracy, verdict.reason) == (
        True,
        0.95,
        "accuracy 0.9500 (0.8882 to 0.9785) is above the baseline 0.8000; there was no champion",
    )


@pytest.mark.parametrize(("wrong", "passes"), [(19, True), (20, False)])
def test_the_baseline_must_be_passed(wrong: int, passes: bool) -> None:
    verdict = judge(answers(right(100, wrong)), None, limits())
    assert (verdict.better, "baseline" in broken(verdict)) == (passes, not passes)


@pytest.mark.parametrize(("images", "passes"), [(30, True), (29, False), (0, False)])
def test_too_few_test_images_reject_and_say_how_many_are_missing(images: int, passes: bool) -> None:
    verdict = judge(answers(right(images)), None, limits())
    assert verdict.better is passes
    if not passes:
        assert f"add images until {30 - images} more are in test" in verdict.reason


def test_a_class_below_its_floor_rejects_and_is_named() -> None:
    labels = ["a"] * 90 + ["b"] * 10
    verdict = judge(answers([True] * 94 + [False] * 6, labels), None, limits())
    assert broken(verdict) == ["worst-class"]
    assert verdict.reason.startswith("class 'b' has accuracy 0.4000")


@pytest.mark.parametrize(("policy", "better"), [("allow", True), ("reject", False)])
def test_a_class_with_few_test_images_is_untested_and_named(policy: str, better: bool) -> None:
    labels = ["a"] * 60 + ["b"] * 4
    verdict = judge(answers([True] * 60 + [False] * 4, labels, "abc"), None, limits(untested=policy))
    assert (verdict.better, verdict.untested) == (better, ("b", "c"))
    assert "'b' (4), 'c' (0)" in next(rule.says for rule in verdict.rules if rule.name == "untested")
    assert "untested, with fewer than 5 test images: 'b' (4), 'c' (0)" in verdict.reason


@pytest.mark.parametrize(("unknown", "passes"), [(5, True), (6, False)])
def test_unknown_for_a_known_class_counts_against_the_model(unknown: int, passes: bool) -> None:
    verdict = judge(answers(right(100, unknown), unknown=[i < unknown for i in range(100)]), None, limits())
    assert ("unknown" not in broken(verdict)) is passes
    assert verdict.accuracy == pytest.approx(1 - unknown / 100)


@pytest.mark.parametrize(
    ("gained", "lost", "result"),
    [(5, 0, Result.BETTER), (4, 0, Result.EQUAL), (0, 5, Result.WORSE), (9, 2, Result.BETTER), (8, 2, Result.EQUAL)],
)
def test_the_comparison_is_mcnemars_exact_test(gained: int, lost: int, result: Result) -> None:
    # One-sided: 2**-5 = 0.031, 2**-4 = 0.0625; P(X >= 9 of 11) = 67/2048 = 0.033, P(X >= 8 of 10) = 56/1024 = 0.055.
    one = np.array([True] * gained + [False] * lost + [True] * 50)
    other = np.array([False] * gained + [True] * lost + [True] * 50)
    found = compare(one, other, 0.05)
    assert (found.only_challenger, found.only_champion, found.result) == (gained, lost, result)
    assert found.interval.low < found.difference < found.interval.high


def test_chances_and_intervals_are_those_of_scipy() -> None:
    pairs = [(k, n) for n in (1, 2, 7, 30, 101) for k in range(n + 1)]
    pairs += [(k, n) for n in (1_000, 5_001) for k in (0, 1, n // 3, n // 2, n // 2 + 1, n // 2 + 40, n - 1, n)]
    for k, n in pairs:
        wanted = binomtest(k, n, 0.5, alternative="greater").pvalue
        assert heads(k, n) == pytest.approx(wanted, rel=1e-10, abs=1e-300)
        interval, found = binomtest(k, n).proportion_ci(method="wilson"), wilson(k, n)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert (heads(0, 0), wilson(0, 0).low, wilson(0, 0).high) == (1.0, 0.0, 1.0)


def test_many_discordant_images_are_compared_at_once() -> None:
    assert heads(50_500, 100_000) == pytest.approx(0.000791, abs=1e-5)


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    found = wilson(81, 263)  # Newcombe (1998), table I: 0.2553 to 0.3662
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


def test_a_better_model_replaces_the_champion_and_a_worse_one_does_not() -> None:
    good, bad = right(600, 6), right(600, 30)
    assert judge(answers(good), champion(bad), limits()).better
    verdict = judge(answers(bad), champion(good), limits())
    assert broken(verdict) == ["champion"]
    assert "worse than v1 on 600 images: right alone on 0, wrong alone on 24" in verdict.reason


@pytest.mark.parametrize(
    ("policy", "fresh", "better"),
    [("fresher", 3, True), ("fresher", 0, False), ("keep", 3, False), ("replace", 0, True)],
)
def test_the_policy_decides_a_tie(policy: str, fresh: int, better: bool) -> None:
    one_image_more = [True, *right(599, 6)]
    verdict = judge(answers(one_image_more), champion(right(600, 7), fresh=fresh), limits(on_tie=policy))
    assert verdict.comparison is not None
    assert verdict.comparison.result is Result.EQUAL
    assert verdict.better is better


@pytest.mark.parametrize(("policy", "better"), [("fresher", True), ("keep", False), ("replace", True)])
def test_a_champion_that_does_not_say_what_it_had_is_not_compared(policy: str, better: bool) -> None:
    verdict = judge(answers(right(600)), champion(right(600, 300), fresh=None), limits(on_tie=policy))
    assert (verdict.comparison, verdict.better) == (None, better)
    assert "not compared with v1, which does not say which images it has had" in verdict.reason


def test_images_that_one_of_the_two_learned_from_are_left_out_and_counted() -> None:
    fair = [i < 100 for i in range(300)]
    known_by_heart = [i >= 20 for i in range(300)]  # the champion is wrong on 20 of the fair ones only
    verdict = judge(answers(right(300)), champion(known_by_heart, fair=fair), limits())
    assert (verdict.left_out, verdict.comparison and verdict.comparison.images) == (200, 100)
    assert verdict.better
    assert "200 left out" in verdict.reason


def test_too_few_fair_images_are_no_comparison_and_the_policy_decides() -> None:
    fair = [i < 29 for i in range(300)]
    for fresh, better in ((1, True), (0, False)):
        verdict = judge(answers(right(300)), champion(right(300, 29), fair=fair, fresh=fresh), limits())
        assert (verdict.comparison, verdict.better) == (None, better)
        assert "not compared with v1: 29 test images are left for it (271 left out" in verdict.reason


def test_a_class_that_vanished_rejects_unless_it_may() -> None:
    mine = answers(right(100), classes="ab")
    verdict = judge(mine, champion(right(100, 9), classes="abc"), limits())
    assert broken(verdict) == ["lost-classes"]
    assert "'c'" in verdict.reason
    assert judge(mine, champion(right(100, 9), classes="abc"), limits(allow_lost_classes=["c"])).better


def test_a_new_class_that_is_tested_and_good_is_enough_where_the_old_ones_are_not_worse() -> None:
    labels = ["a", "b"] * 50 + ["c"] * 20
    old = right(100, 5)
    served = champion([*old, *[False] * 20], classes="ab", fresh=0)
    assert judge(answers([*old, *[True] * 20], labels, "abc"), served, limits()).better
    assert not judge(answers([*old, *[False] * 11, *[True] * 9], labels, "abc"), served, limits()).better
    worse = right(100, 15)
    assert broken(judge(answers([*worse, *[True] * 20], labels, "abc"), served, limits())) == ["champion"]


def test_a_class_enrolled_by_the_gallery_alone_is_untested_and_deploys_as_fresher() -> None:
    mine = answers(right(100, 5), classes="abc", labels=["a", "b"] * 50)
    verdict = judge(mine, champion(right(100, 5), classes="ab", fresh=12), limits())
    assert (verdict.better, verdict.untested) == (True, ("c",))
    assert "fresher, by 12 images" in verdict.reason


def test_the_champion_itself_passes_and_one_taken_out_of_service_does_not() -> None:
    mine = answers(right(100, 5))
    assert judge(mine, champion(right(100, 5)), limits(), is_champion=True).better
    verdict = judge(mine, None, limits(), rolled_back="v1 was rolled back on Monday")
    assert (verdict.better, verdict.reason) == (False, "v1 was rolled back on Monday")


def test_chance_does_not_pass_the_gate() -> None:
    rng = np.random.default_rng(0)
    deployed = 0
    for _ in range(1000):
        classes, size = int(rng.integers(2, 11)), int(rng.integers(5, 101))
        labels = [chr(97 + label) for label in range(classes) for _ in range(max(1, round(size * 0.2)))]
        guess = rng.random(len(labels)) < 1 / classes
        deployed += judge(Answers(labels, guess, ~guess & False, frozenset(labels)), None, limits()).better
    assert deployed == 0
