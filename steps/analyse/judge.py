"""The gate's decision, from answers alone: a list of rules, each passed or not; reads and writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steps.analyse.comparison import Comparison, Result, compare
from steps.analyse.parameters import Gate
from steps.common.statistics.interval import Interval, wilson

_NAMED = 20  # classes in a sentence; verdict.json has all


@dataclass(frozen=True)
class Answers:
    """What a model answered to the test images, as the server would.

    `labels` are the true ones [N]; `right` bool [N] whether the answer is that label, so an `unknown` is wrong;
    `unknown` bool [N] whether that was the answer; `classes` are those that the model can answer with.
    """

    labels: Sequence[str]
    right: NDArray[np.bool_]
    unknown: NDArray[np.bool_]
    classes: frozenset[str]


@dataclass(frozen=True)
class Champion:
    """The model now served, asked on the test images.

    `right` is bool [N] as of the challenger; `fair` bool [N] says which images it was asked on and neither model has
    had. `fresh` counts images that the challenger learned from or holds in its gallery and that the champion never had;
    None if the champion does not say what it had, and then no image is fair. `gone` counts images that it cannot be
    asked on, since their originals are gone. `version` names it in messages.
    """

    version: str
    right: NDArray[np.bool_]
    fair: NDArray[np.bool_]
    classes: frozenset[str]
    fresh: int | None
    gone: int = 0


@dataclass(frozen=True)
class Rule:
    """One rule: its limit, what was found, on how many images, and whether it is kept; `says` is that in words."""

    name: str
    limit: Any
    found: Any
    images: int
    passed: bool
    says: str


@dataclass(frozen=True)
class Verdict:
    """What the pipeline's conditions ask, and the rules that it comes from; `better` only if every rule is kept."""

    accuracy: float
    interval: Interval
    worst_label: str | None
    worst_accuracy: float
    better: bool
    reason: str
    rules: tuple[Rule, ...]
    comparison: Comparison | None
    untested: tuple[str, ...]
    left_out: int


def judge(
    challenger: Answers,
    champion: Champion | None,
    gate: Gate,
    *,
    is_champion: bool = False,
    rolled_back: str | None = None,
) -> Verdict:
    """Judge a challenger by every rule of the gate.

    Args:
        challenger: Its answers to the test images.
        champion: The served model's answers to the same images; None if nothing is served.
        gate: The limits.
        is_champion: Whether network and index are the very ones now served, which need not beat themselves.
        rolled_back: Which version a person took out of service, and when, if this is that model: it stays out.

    Returns:
        The verdict. Its reason is made of the rules that are broken, or says why the model passes.
    """
    count = len(challenger.labels)
    accuracy = float(challenger.right.mean()) if count else 0.0
    per_class = _per_class(challenger)
    tested = {label: found for label, found in per_class.items() if found[1] >= gate.min_class_images}
    untested = tuple(sorted((challenger.classes | set(per_class)) - set(tested)))
    worst = min(tested, key=lambda label: tested[label][0]) if tested else None
    worst_accuracy = tested[worst][0] if worst is not None else 0.0
    interval = wilson(int(challenger.right.sum()), count)
    rules = [
        _enough_images(count, gate),
        _above_baseline(accuracy, interval, count, gate),
        _worst_class(worst, worst_accuracy, tested, gate),
        _few_unknown(challenger, gate),
    ]
    if untested:
        rules.append(_classes_tested(untested, per_class, gate))
    comparison, why = None, f"accuracy {accuracy:.4f} ({interval}) is above the baseline {gate.baseline:.4f}"
    left_out = 0
    if is_champion:
        why = f"accuracy {accuracy:.4f} ({interval}); its network and index are those served already"
    elif champion is None:
        why += "; there was no champion"
    else:
        left_out = int((~champion.fair).sum())
        comparison = _compared(challenger, champion, gate)
        rules.append(_no_class_lost(challenger, champion, gate))
        rules.append(_against(challenger, champion, comparison, tested, gate))
        why = f"accuracy {accuracy:.4f} ({interval}): {rules[-1].says}"
    if untested:
        why += f"; {_untested(untested, per_class, gate)}"
    if rolled_back and not is_champion:
        rules.append(Rule("rolled-back", None, rolled_back, 0, passed=False, says=rolled_back))
    broken = [rule.says for rule in rules if not rule.passed]
    return Verdict(
        accuracy=accuracy,
        interval=interval,
        worst_label=worst,
        worst_accuracy=worst_accuracy,
        better=not broken,
        reason="; ".join(broken) or why,
        rules=tuple(rules),
        comparison=comparison,
        untested=untested,
        left_out=left_out,
    )


def _per_class(answers: Answers) -> dict[str, tuple[float, int]]:
    """The accuracy and the number of images of each class that has any, in the order of their labels."""
    classes = sorted(set(answers.labels))
    number = {label: i for i, label in enumerate(classes)}
    labels = np.array([number[label] for label in answers.labels], np.int64)
    images = np.bincount(labels, minlength=len(classes))
    right = np.bincount(labels, weights=answers.right, minlength=len(classes))
    counts = zip(classes, right.tolist(), images.tolist(), strict=True)
    return {label: (hits / count, count) for label, hits, count in counts}


def _enough_images(count: int, gate: Gate) -> Rule:
    missing = gate.min_test_images - count
    says = f"test has {count} images, and gate.min_test_images is {gate.min_test_images}"
    if missing > 0:
        says += f": add images until {missing} more are in test"
    return Rule("test-images", gate.min_test_images, count, count, missing <= 0, says)


def _above_baseline(accuracy: float, interval: Interval, count: int, gate: Gate) -> Rule:
    passed = accuracy > gate.baseline
    says = f"accuracy {accuracy:.4f} ({interval}) is {'' if passed else 'not '}above the baseline {gate.baseline:.4f}"
    return Rule("baseline", gate.baseline, accuracy, count, passed, says)


def _worst_class(worst: str | None, accuracy: float, tested: Mapping[str, tuple[float, int]], gate: Gate) -> Rule:
    floor = gate.worst_class_floor
    if worst is None:
        says = f"no class has gate.min_class_images ({gate.min_class_images}) test images, so none is tested"
        return Rule("worst-class", floor, None, 0, passed=False, says=says)
    count = tested[worst][1]
    passed = accuracy >= floor
    interval = wilson(round(accuracy * count), count)
    relation = "not below" if passed else "below"
    says = f"class {worst!r} has accuracy {accuracy:.4f} ({interval}), {relation} the floor {floor:.4f}"
    return Rule("worst-class", floor, {worst: accuracy}, count, passed, says)


def _few_unknown(challenger: Answers, gate: Gate) -> Rule:
    known = np.array([label in challenger.classes for label in challenger.labels], bool)
    count = int(known.sum())
    share = float(challenger.unknown[known].mean()) if count else 0.0
    passed = share <= gate.max_unknown
    says = f"{share:.2%} of the test images of known classes are answered unknown"
    says += f", {'within' if passed else 'more than'} gate.max_unknown ({gate.max_unknown:.2%})"
    return Rule("unknown", gate.max_unknown, share, count, passed, says)


def _classes_tested(untested: Sequence[str], per_class: Mapping[str, tuple[float, int]], gate: Gate) -> Rule:
    counts = {label: per_class.get(label, (0.0, 0))[1] for label in untested}
    says = _untested(untested, per_class, gate)
    return Rule("untested", gate.untested, counts, sum(counts.values()), gate.untested != "reject", says)


def _untested(untested: Sequence[str], per_class: Mapping[str, tuple[float, int]], gate: Gate) -> str:
    named = _named([f"{label!r} ({per_class.get(label, (0.0, 0))[1]})" for label in untested])
    return f"untested, with fewer than {gate.min_class_images} test images: {named}"


def _named(words: Sequence[str]) -> str:
    others = f" and {len(words) - _NAMED} others" if len(words) > _NAMED else ""
    return f"{', '.join(words[:_NAMED])}{others}"


def _no_class_lost(challenger: Answers, champion: Champion, gate: Gate) -> Rule:
    lost = sorted(champion.classes - challenger.classes)
    refused = [label for label in lost if label not in gate.allow_lost_classes]
    says = "every class that the champion knows is known"
    if refused:
        says = (
            f"{champion.version} knows {_named([*map(repr, refused)])}, and this model does not: put the images back,"
        )
        says += " or name them in gate.allow_lost_classes"
    elif lost:
        says = f"{_named([*map(repr, lost)])} may be lost, as gate.allow_lost_classes says"
    return Rule("lost-classes", list(gate.allow_lost_classes), lost, 0, not refused, says)


def _comparable(challenger: Answers, champion: Champion) -> NDArray[np.bool_]:
    """Fair images of classes that the champion knows, since it can only be wrong on others."""
    if champion.fresh is None:
        return np.zeros(len(challenger.labels), bool)
    known = np.array([label in champion.classes for label in challenger.labels], bool)
    comparable: NDArray[np.bool_] = champion.fair & known
    return comparable


def _compared(challenger: Answers, champion: Champion, gate: Gate) -> Comparison | None:
    """None if too few images are comparable."""
    rows = _comparable(challenger, champion)
    if rows.sum() < gate.min_test_images:
        return None
    return compare(challenger.right[rows], champion.right[rows], gate.significance)


def _against(
    challenger: Answers,
    champion: Champion,
    comparison: Comparison | None,
    tested: Mapping[str, tuple[float, int]],
    gate: Gate,
) -> Rule:
    """Better; or not worse, and it knows a new class; or a tie, which the policy decides."""
    count = int(_comparable(challenger, champion).sum())
    shown = _shown(champion, comparison, count, gate)
    if comparison and comparison.result is not Result.EQUAL:
        better = comparison.result is Result.BETTER
        return Rule("champion", gate.significance, comparison.p_value, count, better, shown)
    new = sorted(challenger.classes - champion.classes)
    passing = [label for label in new if label in tested and tested[label][0] >= gate.worst_class_floor]
    if comparison and passing:
        says = f"{shown}, and it knows {_named([*map(repr, passing)])}, which {champion.version} does not"
        return Rule("champion", gate.significance, comparison.p_value, count, passed=True, says=says)
    passed, policy = _tie(champion, gate)
    found = comparison.p_value if comparison else None
    return Rule("champion", gate.on_tie, found, count, passed, f"{shown}; {policy}")


def _shown(champion: Champion, comparison: Comparison | None, count: int, gate: Gate) -> str:
    if champion.fresh is None:
        return f"not compared with {champion.version}, which does not say which images it has had"
    aside = _left_out(champion)
    if comparison is None:
        return (
            f"not compared with {champion.version}: {count} test images are left for it{aside}, fewer than "
            f"gate.min_test_images ({gate.min_test_images})"
        )
    relation = {Result.BETTER: "better than", Result.EQUAL: "equal to", Result.WORSE: "worse than"}[comparison.result]
    return (
        f"{relation} {champion.version} on {comparison.images} images{aside}: right alone on "
        f"{comparison.only_challenger}, wrong alone on {comparison.only_champion} (p = {comparison.p_value:.2g}, "
        f"difference {comparison.difference:+.4f}, {comparison.interval})"
    )


def _left_out(champion: Champion) -> str:
    had = int((~champion.fair).sum()) - champion.gone
    parts = [f"{had} left out, which one of the two has had"] if had else []
    parts += [f"{champion.gone} left out, whose originals are gone"] if champion.gone else []
    return f" ({', '.join(parts)})" if parts else ""


def _tie(champion: Champion, gate: Gate) -> tuple[bool, str]:
    match gate.on_tie:
        case "replace":
            return True, "gate.on_tie is replace"
        case "fresher" if champion.fresh is None:
            return True, "taken for fresher"
        case "fresher" if champion.fresh:
            return True, f"fresher, by {champion.fresh} images that {champion.version} never had"
        case "fresher":
            return False, f"no image is new to {champion.version}, so it stays"
    return False, f"gate.on_tie is keep, so {champion.version} stays"
