"""`lock`: a requirements.in that cannot be resolved is named, and ends the command with status 1."""

import sys

import pytest

from pipeline.__main__ import main
from pipeline.images import lock


def test_what_cannot_be_resolved_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lock, "_UV", [sys.executable, "-c", "raise SystemExit(3)"])
    assert main(["lock"]) == 1
    assert capsys.readouterr().err.startswith("error: requirements.in cannot be resolved (uv ended with status 3)")
