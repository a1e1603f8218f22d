"""How sure the numbers are that rules found; reads and writes nothing."""

from steps.analyse.judge import Rule, Verdict
from steps.common.statistics.interval import Interval, wilson


def interval_of(rule: Rule, verdict: Verdict) -> Interval | None:
    """The 95 % confidence interval of what a rule found; None for what is no share of images.

    Args:
        rule: The rule.
        verdict: What it belongs to.

    Returns:
        The interval; of the rule `champion` that of the difference of accuracies.
    """
    match rule.name:
        case "baseline":
            return verdict.interval
        case "worst-class" if rule.found:
            return wilson(round(verdict.worst_accuracy * rule.images), rule.images)
        case "unknown" if rule.found is not None:
            return wilson(round(rule.found * rule.images), rule.images)
        case "champion" if verdict.comparison:
            return verdict.comparison.interval
    return None
