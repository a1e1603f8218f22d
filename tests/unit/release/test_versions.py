"""The table of versions: which there are, how good, of what, who served when and who wanted it so."""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contract.journal import Event
from contract.loop.labels import Action, Before, Line, labels_path
from contract.pointer import Record
from steps.deploy.__main__ import main
from steps.deploy.release.history import Period, lineage, periods
from steps.deploy.release.journal import opened, read_status
from steps.deploy.release.rollback import rollback
from steps.deploy.release.status import Change
from steps.deploy.release.switch import switch
from steps.deploy.release.versions import rebuild, versions
from steps.deploy.release.volume import write_pointer
from tests.support.switching import pointed


def change(at: int, event: str, version: str | None) -> Change:
    return Change(str(at), Event(event), version, None, f"by-{at}", "")


def test_a_period_ends_where_the_next_begins_and_the_last_goes_on() -> None:
    log = [
        change(1, "deployed", "a"),
        change(2, "deployed", "b"),
        change(3, "rolled-back", "a"),
        change(4, "undone", None),
    ]
    assert periods(log) == [
        Period("a", "1", "2", "by-1"),
        Period("b", "2", "3", "by-2"),
        Period("a", "3", "4", "by-3"),
    ]
    assert periods(log[:3])[-1].until is None


@pytest.mark.parametrize(
    ("events", "path"),
    [
        ([("deployed", "a"), ("deployed", "b")], ["a", "b"]),
        ([("deployed", "a"), ("deployed", "b"), ("undone", "a")], ["a"]),
        ([("deployed", "a"), ("deployed", "b"), ("rolled-back", "a"), ("undone", "b")], ["a", "b"]),
        ([("deployed", "a"), ("undone", None), ("deployed", "b")], ["b"]),
        ([("deployed", "a"), ("deployed", "b"), ("deployed", "a"), ("rolled-back", "b")], ["a", "b"]),
    ],
)
def test_what_was_undone_or_rolled_back_did_not_lead_to_what_is_served(
    events: list[tuple[str, str | None]], path: list[str]
) -> None:
    assert lineage(change(number, *event) for number, event in enumerate(events)) == path


def deployed(version: str, **facts: Any) -> None:
    folder = Path(os.environ["VOLUMES"], "deploy-model/model-store")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"m_{version}.mar").write_bytes(b"")
    of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    ids = {"name": "m", "version": version, "mar": f"m_{version}.mar", "sha256": of_nothing}
    with opened() as journal:
        switch(journal, Record(**ids, network=f"n-{version}", index="i", **facts), Event.DEPLOYED, "good")


def test_every_version_is_listed_with_what_is_known_of_it(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deployed("v1", deployed_at="2026-01-01T00:00:00+00:00", accuracy=0.98765, dataset="d1")
    deployed("v2", deployed_at="2026-01-02T00:00:00+00:00", accuracy=0.99, dataset="d2")
    rollback()
    assert main(["versions"]) == 0
    head, *rows = [re.split(r"  +", row.strip()) for row in capsys.readouterr().out.splitlines()]
    assert head == ["version", "deployed", "accuracy", "measured", "dataset", "network", "served from", "until", "by"]
    assert rows[0][:6] == ["*", "v1", "2026-01-01T00:00:00+00:00", "0.9877", "-", "d1"]
    assert rows[1][1] == "now", "a second line for the second time that it was served"
    assert rows[2][:5] == ["v2", "2026-01-02T00:00:00+00:00", "0.9900", "-", "d2"]
    assert len(rows) == 3
    assert all("@" in row[-1] for row in rows)


def test_nothing_is_written_to_tell_it(volumes: Path) -> None:
    assert versions() == [f"nothing was deployed yet in {volumes / 'deploy-model'}"]
    assert not volumes.exists()
    deployed("v1")
    write_pointer(replace(pointed(), version="by-hand"))
    log = (volumes / "deploy-model/audit.jsonl").read_bytes()
    *table, note = versions()
    assert re.search(r"\*  by-hand .* now +unknown", "\n".join(table))
    assert note == (
        "current.json names by-hand and is not what the journal says, v1: the next deploy or rollback takes it as set "
        "by hand, and make versions REBUILD=1 writes it from the journal"
    )
    assert (volumes / "deploy-model/audit.jsonl").read_bytes() == log
    (volumes / "deploy-model/current.json").unlink()
    *table, note = versions()
    assert "*" not in "\n".join(table)
    assert note.startswith("current.json is missing and is not what the journal says, v1: ")


def unlink(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_text("{")


def other(path: Path) -> None:
    path.write_text(path.read_text().replace("n-v", "m-v"))


@pytest.mark.parametrize("spoil", [unlink, damage, other])
def test_files_that_disagree_with_the_journal_are_told_and_rebuilt(
    deploy_volume: Path, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    deployed("v1")
    deployed("v2")
    rollback()
    names = ("current.json", "versions/v1.json", "versions/v2.json")
    before = {name: (deploy_volume / name).read_bytes() for name in names}
    assert rebuild() == ["nothing disagrees with the journal"]
    assert not any("journal" in line for line in versions())
    for name in names:
        spoil(deploy_volume / name)
    told = versions()[-3:]
    assert [name for name in names if any(name in line for line in told)] == list(names)
    assert all(line.endswith("make versions REBUILD=1 writes it from the journal") for line in told)
    journal = (deploy_volume / "audit.jsonl").read_bytes()
    assert main(["versions", "--rebuild"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"versions/{version}.json was written from the journal" for version in ("v1", "v2")),
        "current.json was written from the journal: it names v1",
    ]
    assert {name: (deploy_volume / name).read_bytes() for name in names} == before
    assert (deploy_volume / "audit.jsonl").read_bytes() == journal
    assert [note.version for note in pointed().rolled_back] == ["v2"]


def test_a_pointer_that_should_not_be_there_is_removed(deploy_volume: Path) -> None:
    deployed("v1")
    pointer = pointed()
    (deploy_volume / "current.json").unlink()
    with opened():
        pass
    write_pointer(pointer)
    assert rebuild() == ["current.json was removed: the journal says that nothing is served"]
    assert not (deploy_volume / "current.json").exists()


def test_without_a_journal_nothing_is_rebuilt_and_nothing_lost(
    deploy_volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed("v1")
    pointer = pointed()
    (deploy_volume / "audit.jsonl").unlink()
    assert rebuild() == ["nothing disagrees with the journal"]
    assert (pointed(), read_status().current) == (pointer, pointer)
    (deploy_volume / "audit.jsonl").unlink()
    (deploy_volume / "current.json").write_text("{")
    assert main(["versions", "--rebuild"]) == 2
    assert "current.json cannot be read" in capsys.readouterr().err


def test_a_switch_that_a_killed_run_left_is_told(deploy_volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed("v1")
    with monkeypatch.context() as killed:
        killed.setattr("steps.deploy.release.switch.write_record", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            deployed("v2")
    assert versions()[-1].startswith("v2 is requested and not confirmed: ")
    assert not any("REBUILD" in line for line in versions())
    assert rebuild() == ["versions/v2.json was written from the journal"]
    assert "not confirmed" not in versions()[-1]
    assert pointed().version == "v1"


def reviewed(right: int, wrong: int, version: str = "v1") -> None:
    """Let random images that a version answered be reviewed."""
    lines = [
        Line(
            id=f"{number}",
            at="2026-01-03T00:00:00+00:00",
            by="me",
            action=Action.LABEL,
            digest=f"d{number}",
            label="4" if number < right else "9",
            before=Before("4", version),
            passed=(f"d{number}",),
        )
        for number in range(right + wrong)
    ]
    path = labels_path(Path(os.environ["VOLUMES"], "data"))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(line.encoded() for line in lines))


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [(95, 5, ""), (80, 20, "below"), (20, 0, ""), (2000, 0, "above")],
)
def test_the_measured_accuracy_stands_beside_the_verdicts(volumes: Path, right: int, wrong: int, says: str) -> None:
    verdict = volumes / "model/verdict/verdict-1/verdict.json"
    verdict.parent.mkdir(parents=True)
    verdict.write_text('{"interval": {"low": 0.95, "high": 0.99}}')
    deployed("v1", accuracy=0.97, verdict="verdict-1")
    reviewed(right, wrong)
    _, row, *notes = versions()
    assert f"{right / (right + wrong):.4f} (" in row
    assert f" of {right + wrong} " in row
    assert [f"is {says} that of its verdict (0.9500 to 0.9900)" in note for note in notes] == ([True] if says else [])


def test_a_verdict_that_is_gone_is_not_compared(volumes: Path) -> None:
    deployed("v1", accuracy=0.97, verdict="verdict-1")
    reviewed(1, 99)
    assert len(versions()) == 2
