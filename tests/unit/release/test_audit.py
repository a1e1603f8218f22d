"""The log of every switch: complete and in order, whatever was killed when."""

import hashlib
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from steps.common import pointer as pointer_module
from steps.common.pointer import read_pointer, write_pointer
from steps.deploy.release import audit
from steps.deploy.release.rollback import rollback
from steps.deploy.release.switch import alone
from tests.support.switching import current, served, switches

pytestmark = pytest.mark.usefixtures("deploy_volume")


def test_the_log_says_who(monkeypatch: pytest.MonkeyPatch) -> None:
    served("v1")
    monkeypatch.setenv("RUN_ID", "0a1b-run")
    served("v2")
    by = [line["by"] for line in audit.read()]
    assert "@" in by[0]
    assert by[1] == "0a1b-run"
    assert all(set(line) == {"at", "event", "version", "before", "by", "reason"} for line in audit.read())


def test_a_switch_of_a_run_killed_before_its_line_is_logged_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    served("v1")
    with monkeypatch.context() as killed:
        killed.setattr(audit, "append", lambda _: None)
        killed.setenv("RUN_ID", "killed")
        served("v2")
    assert switches() == [("deployed", None, "v1")]
    assert rollback() == "ROLLED BACK to v1 (was v2)"
    assert switches() == [("deployed", None, "v1"), ("deployed", "v1", "v2"), ("rolled-back", "v2", "v1")]
    assert audit.read()[1]["by"] == "killed"


def kill_at(step: str) -> None:
    """Deploy v2, dying at this moment as `kill -9` would make it."""
    os.environ.pop("RUN_ID", None)

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    from steps.deploy.release import switch as module

    setattr(module.audit if step == "append" else module, step, die)
    served("v2")


@pytest.mark.parametrize(("step", "after"), [("_remember", "v1"), ("write_pointer", "v1"), ("append", "v2")])
def test_a_deploy_killed_at_any_moment_leaves_a_pointer_and_a_log_that_can_be_completed(step: str, after: str) -> None:
    served("v1")
    process = multiprocessing.get_context("fork").Process(target=kill_at, args=(step,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert current() == after
    with alone():
        pass
    assert audit.read()[-1]["version"] == after
    served("v2")
    assert switches() == [("deployed", None, "v1"), ("deployed", "v1", "v2")]
    assert rollback() == "ROLLED BACK to v1 (was v2)"


def test_a_torn_line_is_no_end_of_the_log(deploy_volume: Path) -> None:
    served("v1")
    log = deploy_volume / "audit.jsonl"
    served("v2")
    log.write_bytes(log.read_bytes()[:-30])
    assert switches() == [("deployed", None, "v1")]
    assert rollback() == "ROLLED BACK to v1 (was v2)"
    assert switches() == [("deployed", None, "v1"), ("deployed", "v1", "v2"), ("rolled-back", "v2", "v1")]


def test_what_was_served_before_there_was_a_log_can_be_gone_back_to(deploy_volume: Path) -> None:
    mar = deploy_volume / "model-store/digits_v0.mar"
    mar.write_bytes(b"of an older version of this project")
    sha256 = hashlib.sha256(mar.read_bytes()).hexdigest()
    ids = {"network": "n", "index": "i", "sha256": sha256, "deployed_at": "2026-01-01T00:00:00+00:00"}
    write_pointer({"name": "digits", "version": "v0", "mar": mar.name, **ids})
    served("v1")
    assert audit.read()[0]["at"] == "2026-01-01T00:00:00+00:00"
    assert rollback() == "ROLLED BACK to v0 (was v1)"


def test_a_pointer_changed_by_hand_is_seen() -> None:
    served("v1")
    pointer = read_pointer()
    pointer_module.pointer_path().unlink()
    served("v2")
    assert pointer is not None
    write_pointer(pointer)
    served("v3")
    assert switches() == [
        ("deployed", None, "v1"),
        ("undone", "v1", None),
        ("deployed", None, "v2"),
        ("deployed", "v2", "v1"),
        ("deployed", "v1", "v3"),
    ]


def test_runs_wait_for_each_other() -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=served, args=(f"v{number}",)) for number in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    lines = audit.read()
    assert [line["before"] for line in lines] == [None, *(line["version"] for line in lines[:-1])]
    assert len(lines) == 6
    assert current() == lines[-1]["version"]
