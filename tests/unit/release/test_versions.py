"""The table of versions: which there are, how good, of what, who served when and who wanted it so."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from steps.common.pointer import pointer_path, read_pointer, write_pointer
from steps.deploy.__main__ import main
from steps.deploy.release import audit
from steps.deploy.release.audit import Period, periods, served
from steps.deploy.release.rollback import rollback, versions
from steps.deploy.release.switch import alone, switch


def line(at: int, event: str, version: str | None, before: str | None = None) -> dict[str, Any]:
    return audit.entry(event, version, before, "", by=f"by-{at}", at=str(at))


def test_a_period_ends_where_the_next_begins_and_the_last_goes_on() -> None:
    log = [line(1, "deployed", "a"), line(2, "deployed", "b"), line(3, "rolled-back", "a"), line(4, "undone", None)]
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
    assert served(line(number, *event) for number, event in enumerate(events)) == path


def deployed(version: str, **facts: Any) -> None:
    folder = Path(os.environ["VOLUMES"], "deploy-model/model-store")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"m_{version}.mar").write_bytes(b"")
    of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    ids = {"name": "m", "version": version, "mar": f"m_{version}.mar", "sha256": of_nothing}
    with alone() as current:
        switch(current, {**ids, "network": f"n-{version}", "index": "i", **facts}, audit.DEPLOYED, "good")


def test_every_version_is_listed_with_what_is_known_of_it(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deployed("v1", deployed_at="2026-01-01T00:00:00+00:00", accuracy=0.98765, dataset="d1")
    deployed("v2", deployed_at="2026-01-02T00:00:00+00:00", accuracy=0.99, dataset="d2")
    rollback()
    assert main(["versions"]) == 0
    head, *rows = [re.split(r"  +", row.strip()) for row in capsys.readouterr().out.splitlines()]
    assert head == ["version", "deployed", "accuracy", "dataset", "network", "served from", "until", "by"]
    assert rows[0][:6] == ["*", "v1", "2026-01-01T00:00:00+00:00", "0.9877", "d1", "n-v1"]
    assert rows[1][1] == "now", "a second line for the second time that it was served"
    assert rows[2][:5] == ["v2", "2026-01-02T00:00:00+00:00", "0.9900", "d2", "n-v2"]
    assert len(rows) == 3
    assert all("@" in row[-1] for row in rows)


def test_nothing_is_written_to_tell_it(volumes: Path) -> None:
    assert versions() == [f"nothing was deployed yet in {volumes / 'deploy-model'}"]
    assert not volumes.exists()
    deployed("v1")
    pointer = read_pointer()
    assert pointer is not None
    write_pointer({**pointer, "version": "by-hand", "switched": None})
    log = audit.read()
    assert "the pointer was set by hand" not in str(log)
    table = "\n".join(versions())
    assert re.search(r"\*  by-hand .* now +unknown", table)
    assert audit.read() == log
    pointer_path().unlink()
    assert "*" not in "\n".join(versions())
