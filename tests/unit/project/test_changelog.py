"""CHANGELOG.md keeps its form, and its newest version is the one of the code."""

import re
from datetime import date

import pytest

from contract.paths import ROOT
from contract.version import VERSION

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def trouble(text: str) -> str:
    """What keeps a changelog from the form of Keep a Changelog, or nothing."""
    heads = re.findall(r"^## (.+)$", text, re.MULTILINE)
    if heads[:1] != ["[Unreleased]"]:
        return "the first heading is not [Unreleased]"
    releases = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - (\d{4}-\d\d-\d\d)", head) for head in heads[1:]]
    if not all(releases):
        return "a heading is not [x.y.z] - YYYY-MM-DD"
    order = [(tuple(map(int, found.groups()[:3])), date.fromisoformat(found[4])) for found in releases if found]
    if order != sorted(order, reverse=True):
        return "the newest version does not come first"
    unknown = set(re.findall(r"^### (.+)$", text, re.MULTILINE)) - SECTIONS
    return f"unknown sections: {', '.join(sorted(unknown))}" if unknown else ""


def test_it_keeps_its_form() -> None:
    assert trouble(CHANGELOG) == ""


@pytest.mark.parametrize(
    "text",
    [
        "## [1.0.0] - 2026-01-01\n",
        "## [Unreleased]\n## 1.0.0\n",
        "## [Unreleased]\n## [1.0.0] - 2026-01-01\n## [1.1.0] - 2026-02-01\n",
        "## [Unreleased]\n### News\n",
    ],
)
def test_another_form_is_found(text: str) -> None:
    assert trouble(text)


def test_the_newest_version_is_the_one_of_the_code() -> None:
    assert re.findall(r"^## \[(\d\S*)\]", CHANGELOG, re.MULTILINE)[0] == VERSION
