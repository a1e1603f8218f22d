"""Judges a version by the copies of live requests that it was sent; reads and writes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

QUANTILE = 0.95  # of the answers' times
_ROUNDING = 1e-9
_NUMBERS = ("seconds", "share", "max_errors", "max_slower", "min_equal", "max_unknown")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What `serving.shadow` in params.yaml says, and the version that answers meanwhile.

    The pointer carries it to the server; `steps/deploy/parameters.py` describes each, with its range.
    """

    before: str
    seconds: float
    share: float
    min_requests: int
    max_errors: float
    max_slower: float
    min_equal: float
    max_unknown: float

    @classmethod
    def parsed(cls, content: Mapping[str, Any]) -> Self:
        """The limits in a pointer's JSON; KeyError, TypeError or ValueError if they are damaged."""
        return cls(
            before=str(content["before"]),
            min_requests=int(content["min_requests"]),
            **{name: float(content[name]) for name in _NUMBERS},
        )


@dataclass
class Figures:
    """What was counted; `old` is the version that answers the clients, `new` the one that got copies.

    Attributes:
        copies: Requests that the new version was sent.
        dropped: Copies that were not sent, since too many others waited in the new version.
        failed: Copies without an answer, where the client had one.
        compared: Requests whose labels are known of both.
        equal: Those with the same labels.
        images: Images that both gave a label or `unknown`.
        unknown_old: Those that the old version called unknown.
        unknown_new: Those that the new version called unknown.
        seconds_old: The times of the old version's answers.
        seconds_new: The times of the new version's answers to the same requests.
    """

    copies: int = 0
    dropped: int = 0
    failed: int = 0
    compared: int = 0
    equal: int = 0
    images: int = 0
    unknown_old: int = 0
    unknown_new: int = 0
    seconds_old: Sequence[float] = field(default_factory=list)
    seconds_new: Sequence[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """The figures that are judged, by name; shares are from 0 to 1, times in seconds."""
        return {
            "copies": self.copies,
            "dropped": self.dropped,
            "errors": _share(self.failed, self.copies),
            "equal": _share(self.equal, self.compared) if self.compared else 1.0,
            "unknown_old": _share(self.unknown_old, self.images),
            "unknown_new": _share(self.unknown_new, self.images),
            "seconds_old": _quantile(self.seconds_old),
            "seconds_new": _quantile(self.seconds_new),
        }

    def __str__(self) -> str:
        found = self.summary()
        return (
            f"{self.copies} copies ({self.dropped} more were not sent), errors {found['errors']:.2%}, "
            f"equal labels {found['equal']:.2%} of {self.compared}, unknown {found['unknown_new']:.2%} "
            f"(before {found['unknown_old']:.2%}), {QUANTILE:.0%} of the answers within {found['seconds_new']:.3f} s "
            f"(before {found['seconds_old']:.3f} s)"
        )


@dataclass(frozen=True)
class Verdict:
    """Whether the version may answer, and why, with the figures, in words."""

    passed: bool
    reason: str
    figures: Figures


def judge(figures: Figures, limits: Limits) -> Verdict:
    """Hold the figures against the limits.

    Args:
        figures: What was counted.
        limits: The limits. Below `min_requests` nothing is judged, and the version passes: a project without traffic
            must be able to change its model, and the golden predictions were right.

    Returns:
        The verdict.
    """
    began = f"shadowed for {limits.seconds:g} s"
    if figures.copies + figures.dropped < limits.min_requests:
        few = f"fewer than serving.shadow.min_requests ({limits.min_requests}), so nothing was judged"
        return Verdict(True, f"{began}: {figures.copies} copies are {few}", figures)
    found = figures.summary()
    rules = (
        ("errors", "max_errors", found["errors"], limits.max_errors),
        ("seconds slower", "max_slower", found["seconds_new"] - found["seconds_old"], limits.max_slower),
        ("labels that differ", "min_equal", 1 - found["equal"], 1 - limits.min_equal),
        ("rise of unknown", "max_unknown", found["unknown_new"] - found["unknown_old"], limits.max_unknown),
    )
    broken = [
        f"; {what}: {value:.4f}, where serving.shadow.{limit} allows {allowed:g}"
        for what, limit, value, allowed in rules
        if value > allowed + _ROUNDING
    ]
    return Verdict(not broken, f"{began}: {figures}{''.join(broken)}", figures)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _quantile(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[min(int(QUANTILE * len(ordered)), len(ordered) - 1)] if ordered else 0.0
