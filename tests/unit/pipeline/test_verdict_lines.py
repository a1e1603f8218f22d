"""What the closing lines of a run say of a verdict."""

from contract.events import Verdict
from pipeline.local.run import verdict_lines


def test_interval_rules_and_unknown_are_shown() -> None:
    rules = {"test-images": True, "baseline": True, "champion": False}
    verdict = Verdict(0.98, "7", 0.9, False, "because", [0.93, 0.99], rules, "further than 0.1")
    assert verdict_lines(verdict) == [
        ("accuracy", "0.9800 (0.9300 to 0.9900) on the test split"),
        ("worst class", "7, 0.9000"),
        ("rules kept", "test-images, baseline"),
        ("rules broken", "champion"),
        ("unknown", "further than 0.1"),
    ]


def test_an_image_of_an_earlier_version_says_less() -> None:
    assert verdict_lines(Verdict(0.98, None, 0.0, True, "because")) == [
        ("accuracy", "0.9800 on the test split"),
        ("worst class", "none tested"),
    ]
