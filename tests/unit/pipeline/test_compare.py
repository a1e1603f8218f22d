"""`compare`: the verdicts of two revisions side by side."""

from pathlib import Path

import pytest

from contract.events import Finished, Verdict, line
from pipeline.__main__ import main
from pipeline.local.compare import comparison, verdict_in
from pipeline.outcome import Outcome


def test_two_verdicts_are_shown_side_by_side() -> None:
    theirs, ours = Verdict(0.98, "a|b", 0.9, True, "good"), Verdict(0.99, "c", 0.95, True, "better")
    assert comparison("master", theirs, ours, Outcome("DEPLOYED", "2: better")).splitlines() == [
        "| | master | this |",
        "|---|---|---|",
        "| accuracy | 0.9800 on the test split | 0.9900 on the test split |",
        "| worst class | a\\|b, 0.9000 | c, 0.9500 |",
        "",
        "DEPLOYED 2: better",
    ]


def test_the_verdict_of_another_revision_is_read_from_its_log(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    verdict = Verdict(0.98, "7", 0.9, True, "good")
    log.write_text(f"[KFP Executor] starting\n{line(Finished('analyse', verdict=verdict))}\n")
    assert verdict_in(log) == verdict
    log.write_text("[KFP Executor] starting\n")
    assert verdict_in(log) is None
    assert "| accuracy | - | 0.9800 on the test split |" in comparison("old", None, verdict, Outcome("REJECTED", "bad"))


def test_an_unknown_revision_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--base", "no-such-branch", "--volumes", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --base: is 'no-such-branch'; it must be a revision of this repository")
    assert error.count("\n") == 1
