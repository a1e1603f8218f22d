"""The journal of releases: complete and in order, whatever was torn, set by hand or written by an earlier version."""

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from contract.journal import Entry, Event, State, Template, read_journal
from contract.pointer import Note, Record
from steps.common.errors import StepError
from steps.common.pointer import read_pointer
from steps.deploy.release.journal import opened, read_status
from steps.deploy.release.rollback import rollback
from steps.deploy.release.volume import write_pointer
from tests.support.lockless import no_locks
from tests.support.switching import current, pointed, served, switches

pytestmark = pytest.mark.usefixtures("deploy_volume")


def states(volume: Path) -> list[tuple[str, str | None]]:
    return [(entry.state, entry.version) for entry in read_journal(volume)]


def test_every_transition_is_a_line_with_who_and_when(deploy_volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served("v1")
    monkeypatch.setenv("RUN_ID", "0a1b-run")
    served("v2")
    assert states(deploy_volume) == [
        *(("requested", "v1"), ("pointed", "v1"), ("confirmed", "v1")),
        *(("requested", "v2"), ("pointed", "v2"), ("confirmed", "v2")),
    ]
    lines = [json.loads(line) for line in (deploy_volume / "audit.jsonl").read_text().splitlines()]
    assert {line["schema"] for line in lines} == {1}
    assert "@" in lines[0]["by"]
    assert {line["by"] for line in lines[3:]} == {"0a1b-run"}
    assert (lines[3]["event"], lines[3]["before"], lines[3]["reason"]) == ("deployed", "v1", "it is good")
    assert all(line["at"].endswith("+00:00") for line in lines)


def test_an_entry_is_read_as_it_was_written() -> None:
    record = Record(name="n", version="v", mar="m", sha256="s", accuracy=0.1, prediction={"answer": {"label": "7"}})
    entry = Entry(
        at="2026-01-01T00:00:00+00:00",
        by="\u2028 somebody",
        state=State.ADOPTED,
        version="v",
        event=Event.DEPLOYED,
        before="u",
        reason="two\nlines",
        record=record,
        rolled_back=(Note("a", "b", "c", "d"),),
        template=Template(None, "image"),
    )
    assert entry.line().count(b"\n") == 1
    assert Entry.parsed(entry.line().decode()) == entry
    bare = replace(entry, event=None, before=None, reason="", record=None, rolled_back=(), template=None, version=None)
    assert Entry.parsed(bare.line().decode()) == bare


@pytest.mark.parametrize("torn", range(1, 4))
def test_a_torn_line_is_no_end_of_the_journal(deploy_volume: Path, torn: int) -> None:
    """Of the last three lines, which tell of v2, so many are lost, the first of them in part."""
    served("v1")
    log = deploy_volume / "audit.jsonl"
    served("v2")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-torn]) + lines[-torn][:-30])
    assert rollback() == "ROLLED BACK to v1 (was v2)"
    assert switches() == [("deployed", None, "v1"), ("deployed", "v1", "v2"), ("rolled-back", "v2", "v1")]
    assert [note.version for note in pointed().rolled_back] == ["v2"]


def test_a_pointer_changed_by_hand_is_seen(deploy_volume: Path) -> None:
    served("v1")
    first = read_pointer()
    (deploy_volume / "current.json").unlink()
    served("v2")
    write_pointer(first)
    served("v3")
    assert switches() == [
        ("deployed", None, "v1"),
        ("undone", "v1", None),
        ("deployed", None, "v2"),
        ("deployed", "v2", "v1"),
        ("deployed", "v1", "v3"),
    ]
    by_hand = read_status().history[3]
    assert (by_hand.by, by_hand.reason) == ("unknown", "the pointer was set by hand")


def test_notes_set_by_hand_are_kept(deploy_volume: Path) -> None:
    served("v1")
    note = Note("v0", "n-v0", "i-v0", "2026-01-01T00:00:00+00:00")
    write_pointer(replace(pointed(), rolled_back=(note,)))
    served("v2")
    assert pointed().rolled_back == (note,)
    assert switches() == [("deployed", None, "v1"), ("deployed", "v1", "v2")], "which the same version is no part of"


def test_runs_wait_for_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=served, args=(f"v{number}",)) for number in range(6)]
    with opened():
        for process in processes:
            process.start()
        while capfd.readouterr().out.count("another run is switching what is served") == 0:
            assert any(process.is_alive() for process in processes)
    for process in processes:
        process.join()
    history = read_status().history
    assert [change.before for change in history] == [None, *(change.version for change in history[:-1])]
    assert len(history) == 6
    assert current() == history[-1].version


def test_where_there_are_no_locks_deploying_refuses_unless_told_and_says_so(
    deploy_volume: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fcntl.flock", no_locks)
    with (
        pytest.raises(StepError, match=r"has no locks.* set deploy\.without_locks: true and start one run at a time"),
        opened(without_locks=False),
    ):
        pass
    assert not list(deploy_volume.glob("*.jsonl"))
    with opened(without_locks=True) as journal:
        assert journal.status.current is None
    assert "hold on every node, so nothing keeps two runs that deploy apart" in capsys.readouterr().out


def test_what_a_later_version_of_the_project_wrote_is_refused(deploy_volume: Path) -> None:
    served("v1")
    pointer, journal = deploy_volume / "current.json", deploy_volume / "audit.jsonl"
    content = json.loads(pointer.read_text())
    pointer.write_text(json.dumps({**content, "schema": 2}))
    with pytest.raises(StepError, match=r"current\.json cannot be read .*its schema is 2 .* up to 1: update the"):
        served("v2")
    pointer.write_text(json.dumps(content))
    with journal.open("a") as lines:
        lines.write('{"schema": 2, "state": "dreamt"}\n')
    with pytest.raises(StepError, match=r"audit\.jsonl cannot be read: its schema is 2 .* up to 1: update the"):
        served("v2")
    assert current() == "v1"
