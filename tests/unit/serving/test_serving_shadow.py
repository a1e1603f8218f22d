"""Shadowing without a server: answers are joined by the request's id, figures are judged, the verdict is written."""

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from contract.journal import Event, State, read_journal
from contract.pointer import Note, Pointer, Record, as_file
from serving.front.mirror import Mirror
from serving.shadow.comparison import Comparison
from serving.shadow.judge import Figures, Limits, judge
from serving.shadow.record import BusyError, write_verdict
from steps.deploy.parameters import Shadow
from steps.deploy.release.journal import opened
from steps.deploy.release.switch import shadowed

OLD, NEW = "1111aaaa", "2222bbbb"
LIMITS = Limits.parsed({**Shadow(seconds=60).model_dump(), "before": OLD})


def figures(**changes: Any) -> Figures:
    """Those of a version that is as the one before, but for some."""
    same = {"copies": 1000, "compared": 1000, "equal": 1000, "images": 1000, "unknown_old": 10, "unknown_new": 10}
    return Figures(**{**same, "seconds_old": [0.01] * 1000, "seconds_new": [0.01] * 1000, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"failed": 10},
        {"equal": 900},
        {"unknown_new": 60},
        {"seconds_new": [0.06] * 1000},
        {"seconds_new": [0.01] * 960 + [9.0] * 40},
        {"copies": 29, "failed": 29},
        {"copies": 0, "compared": 0, "equal": 0, "images": 0, "seconds_old": [], "seconds_new": []},
    ],
)
def test_within_the_limits_or_without_traffic_the_version_passes(changes: dict[str, Any]) -> None:
    verdict = judge(figures(**changes), LIMITS)
    assert verdict.passed, verdict.reason
    assert ("nothing was judged" in verdict.reason) == (changes.get("copies", 1000) < 30)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"failed": 11}, "errors: 0.0110, where serving.shadow.max_errors allows 0.01"),
        ({"equal": 899}, "labels that differ: 0.1010, where serving.shadow.min_equal allows 0.1"),
        ({"unknown_new": 61}, "rise of unknown: 0.0510, where serving.shadow.max_unknown allows 0.05"),
        ({"seconds_new": [0.07] * 1000}, "seconds slower: 0.0600, where serving.shadow.max_slower allows 0.05"),
        ({"seconds_new": [0.01] * 940 + [9.0] * 60}, "seconds slower: 8.9900"),
        ({"copies": 8, "failed": 8, "dropped": 22, "compared": 0, "equal": 0}, "errors: 1.0000"),
    ],
)
def test_past_a_limit_the_version_is_refused_with_the_figures(changes: dict[str, Any], words: str) -> None:
    verdict = judge(figures(**changes), LIMITS)
    assert not verdict.passed
    assert verdict.reason.startswith("shadowed for 60 s: ")
    assert words in verdict.reason
    assert verdict.reason.count("serving.shadow.") == 1


def live(request: str, status: int = 200, seconds: str = "0.004") -> bytes:
    line = {"request_id": request, "request": 'POST /"status":500, HTTP/1.1', "status": status}
    return json.dumps({**line, "upstream_seconds": seconds}).encode() + b"\n"


def copied(request: str, status: int = 200, upstream: str = "200") -> bytes:
    line = {"request_id": request, "status": status, "upstream_status": upstream, "upstream_seconds": "0.006"}
    return json.dumps(line).encode() + b"\n"


def labelled(request: str, version: str, *labels: str) -> bytes:
    return json.dumps({"client_request_id": request, "version": version, "labels": labels}).encode() + b"\n"


@pytest.mark.parametrize("turn", range(4))
def test_answers_are_joined_whatever_the_order_of_their_lines(turn: int) -> None:
    found = Comparison(OLD, NEW)
    steps = [
        (found.add_live, live("a") + live("b") + live("c")),
        (found.add_copies, copied("b") + copied("a")),
        (found.add_labels, labelled("a", OLD, "7") + labelled("b", OLD, "1", "unknown")),
        (found.add_labels, labelled("b", NEW, "1", "1") + labelled("a", NEW, "7") + b'{"torn'),
    ]
    for add, lines in steps[turn:] + steps[:turn]:
        add(lines)
    counted = found.figures()
    assert (counted.copies, counted.failed, counted.compared, counted.equal) == (2, 0, 2, 1)
    assert (counted.images, counted.unknown_old, counted.unknown_new) == (3, 1, 0)
    assert (list(counted.seconds_old), list(counted.seconds_new)) == ([0.004] * 2, [0.006] * 2)


def test_only_copies_that_fail_where_the_client_got_an_answer_are_errors() -> None:
    found = Comparison(OLD, NEW)
    found.add_live(live("fails") + live("both", 500, "0.1, 0.2") + live("wrong", 400) + live("refused"))
    found.add_copies(copied("fails", 504, "504") + copied("both", 500, "500") + copied("wrong", 400, "400"))
    found.add_copies(copied("refused", 400, "400") + copied("dropped", 503, "") + copied("late", 500, "507"))
    counted = found.figures()
    assert (counted.copies, counted.failed, counted.dropped) == (5, 3, 1)
    assert counted.compared == 0


def test_an_id_that_a_client_uses_again_joins_no_labels() -> None:
    found = Comparison(OLD, NEW)
    found.add_live(live("same") + live("same"))
    found.add_copies(copied("same") + copied("same"))
    found.add_labels(labelled("same", OLD, "7") + labelled("same", OLD, "1"))
    found.add_labels(labelled("same", NEW, "1") + labelled("same", NEW, "7"))
    assert found.figures().compared == 0


def test_requests_that_were_not_copied_take_no_room() -> None:
    found = Comparison(OLD, NEW)
    for number in range(30_000):
        found.add_live(live(str(number)))
    assert len(found._pairs) == 20_000
    assert found.figures().copies == 0


def test_a_version_that_could_change_the_configuration_is_no_mirror() -> None:
    with pytest.raises(Exception, match="cannot be part of a path"):
        Mirror("1; return 200", 1.0)


def record(version: str, **more: Any) -> Record:
    ids = {"name": "digits", "version": version, "mar": f"{version}.mar", "network": f"n-{version}", "index": "i"}
    return Record(**ids, sha256="0" * 64, **more)


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deploy volume whose pointer names NEW, which is to be shadowed; OLD answers."""
    monkeypatch.setenv("VOLUMES", str(tmp_path))
    monkeypatch.delenv("SERVING_NAMESPACE", raising=False)
    folder = tmp_path / "deploy-model"
    (folder / "versions").mkdir(parents=True)
    new = shadowed(record(NEW, shadow=Shadow(seconds=60).model_dump()), Pointer.to(record(OLD)))
    assert new.shadow
    assert new.shadow["before"] == OLD
    notes = [Note("3333cccc", "n", "i", "2026-01-01")]
    for each in (record(OLD), new):
        (folder / "versions" / f"{each.version}.json").write_bytes(as_file(each))
    (folder / "current.json").write_bytes(as_file(Pointer.to(new, notes)))
    with opened():
        pass
    return folder


@pytest.mark.parametrize(("passed", "served"), [(True, NEW), (False, OLD)])
def test_the_verdict_is_in_pointer_and_journal_and_the_next_run_agrees(volume: Path, passed: bool, served: str) -> None:
    lines = len(read_journal(volume))
    assert write_verdict(volume, NEW, OLD, passed=passed, reason="the figures")
    content = json.loads((volume / "current.json").read_text())
    assert (content["version"], content.get("shadow")) == (served, None)
    [entry] = read_journal(volume)[lines:]
    assert (entry.state, entry.version, entry.reason) == (State.ADOPTED, served, "the figures")
    assert entry.event == (None if passed else Event.UNDONE)
    with opened() as journal:
        assert journal.status.finished
        assert journal.status.version == served
        assert journal.status.current == Pointer.to(record(served), journal.status.current.rolled_back)
        assert [note.version for note in journal.status.current.rolled_back] == ["3333cccc"]
    assert len(read_journal(volume)) == lines + 1, "nothing was set by hand"
    assert not write_verdict(volume, NEW, OLD, passed=passed, reason="again")


def test_a_run_that_holds_the_lock_is_not_disturbed(volume: Path) -> None:
    before = (volume / "current.json").read_bytes()
    with (volume / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BusyError):
            write_verdict(volume, NEW, OLD, passed=False, reason="the figures")
    assert (volume / "current.json").read_bytes() == before


def test_the_version_to_compare_with_is_the_one_that_answers() -> None:
    limits = Shadow(seconds=60).model_dump()
    assert shadowed(record(NEW, shadow=limits), None).shadow is None
    assert shadowed(record(NEW), Pointer.to(record(OLD))).shadow is None
    waiting = Pointer.to(record(NEW, shadow={**limits, "before": OLD}))
    third = shadowed(record("3333cccc", shadow=limits), waiting)
    assert third.shadow == {**limits, "before": OLD}
