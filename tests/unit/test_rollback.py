"""Going back to an earlier version, and the log of every switch: nothing is lost, whatever was killed when."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steps.common import pointer as pointer_module
from steps.common.digest import ROOT
from steps.common.errors import StepError
from steps.common.pointer import read_pointer, rolled_back, write_pointer
from steps.deploy import audit
from steps.deploy.__main__ import main
from steps.deploy.deploy import retire
from steps.deploy.rollback import rollback
from steps.deploy.switch import alone, switch


@pytest.fixture(autouse=True)
def deploy_volume(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SERVING_NAMESPACE", "RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    (volumes / "deploy-model/model-store").mkdir(parents=True)
    return volumes / "deploy-model"


def served(version: str, keep: int = 3, **facts: Any) -> None:
    """Serve this version as deploy would."""
    folder = Path(os.environ["VOLUMES"], "deploy-model")
    mar = folder / "model-store" / f"digits_{version}.mar"
    mar.write_bytes(f"archive of {version}".encode())
    wanted = {
        **{"name": "digits", "version": version, "mar": mar.name, "network": f"n-{version}", "index": f"i-{version}"},
        **{
            "sha256": hashlib.sha256(mar.read_bytes()).hexdigest(),
            "deployed_at": audit.now(),
            "accuracy": 0.9,
            **facts,
        },
    }
    with alone() as current:
        switch(current, {**wanted, "rolled_back": (current or {}).get("rolled_back", [])}, audit.DEPLOYED, "it is good")
        retire(mar, keep)


def current() -> str:
    pointer = read_pointer()
    assert pointer is not None
    return str(pointer["version"])


def switches() -> list[tuple[str, str | None, str | None]]:
    return [(line["event"], line["before"], line["version"]) for line in audit.read()]


def test_the_version_before_is_served_again_and_the_one_left_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    served("v1")
    served("v2")
    assert main(["rollback"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ROLLED BACK to v1 (was v2)"
    pointer = read_pointer()
    assert pointer is not None
    assert (pointer["version"], pointer["mar"], pointer["network"]) == ("v1", "digits_v1.mar", "n-v1")
    assert [(note["version"], note["network"], note["index"]) for note in pointer["rolled_back"]] == [
        ("v2", "n-v2", "i-v2")
    ]
    reason = rolled_back(pointer, "n-v2", "i-v2")
    assert reason is not None
    assert reason.endswith("make rollback VERSION=v2 puts it back")
    assert switches() == [("deployed", None, "v1"), ("deployed", "v1", "v2"), ("rolled-back", "v2", "v1")]


def test_again_and_again_goes_further_back_until_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("v1", "v2", "v3"):
        served(version)
    assert [rollback(), rollback()] == ["ROLLED BACK to v2 (was v3)", "ROLLED BACK to v1 (was v2)"]
    before = (read_pointer(), audit.read())
    assert main(["rollback"]) == 2
    assert "error: there is no version to go back to: none was served before v1; the versions are v1, v2, v3" in (
        capsys.readouterr().err
    )
    assert (read_pointer(), audit.read()) == before


def test_forward_again_takes_the_note_off_and_leaves_none() -> None:
    for version in ("v1", "v2", "v3"):
        served(version)
    rollback("v1")
    rollback("v3")
    pointer = read_pointer()
    assert pointer is not None
    assert (pointer["version"], pointer["rolled_back"]) == ("v3", [])
    assert rollback() == "ROLLED BACK to v1 (was v3)", "which was served before it"


def test_a_version_skipped_stays_allowed_and_a_later_deployment_keeps_the_notes() -> None:
    for version in ("v1", "v2", "v3"):
        served(version)
    rollback("v1")
    served("v4")
    pointer = read_pointer()
    assert pointer is not None
    assert [note["version"] for note in pointer["rolled_back"]] == ["v3"]
    assert rolled_back(pointer, "n-v2", "i-v2") is None
    assert rollback() == "ROLLED BACK to v1 (was v4)"


def test_what_is_served_already_is_said_and_logged_no_second_time(capsys: pytest.CaptureFixture[str]) -> None:
    served("v1")
    served("v2")
    before = (read_pointer(), audit.read())
    assert main(["rollback", "--version", "v2"]) == 0
    assert capsys.readouterr().out == "v2 is served already\n"
    assert (read_pointer(), audit.read()) == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda mar: mar.unlink(), "the archive of v1 is lost: it is neither"),
        (lambda mar: mar.write_bytes(b"half"), "the archive of v1 is damaged: "),
        (lambda mar: mar.rename(mar.with_name("other.mar")), "the archive of v1 is lost"),
    ],
)
def test_an_archive_that_is_lost_or_damaged_is_found_before_anything_changes(
    deploy_volume: Path, spoil: Callable[[Path], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    served("v1")
    served("v2")
    spoil(deploy_volume / "model-store/digits_v1.mar")
    before = (read_pointer(), audit.read())
    assert main(["rollback"]) == 2
    assert message in capsys.readouterr().err
    assert (read_pointer(), audit.read()) == before


def test_an_unknown_version_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--version", "v9"]) == 2
    assert "no version v9 was ever deployed here; no version was deployed yet" in capsys.readouterr().err
    served("v1")
    served("v2")
    assert main(["rollback", "--version", "../v1"]) == 2
    assert "no version ../v1 was ever deployed here; the versions are v1, v2" in capsys.readouterr().err


def test_without_volumes_the_folder_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOLUMES", str(tmp_path / "none"))
    with pytest.raises(StepError, match="nothing was deployed in .*none/deploy-model: choose the volumes"):
        rollback()
    assert not (tmp_path / "none").exists()


def test_an_archive_comes_back_from_backup_and_the_store_keeps_its_number(deploy_volume: Path) -> None:
    for number in range(1, 5):
        served(f"v{number}", keep=2)
        os.utime(deploy_volume / f"model-store/digits_v{number}.mar", (number, number))
    assert {path.name for path in (deploy_volume / "backup").iterdir()} == {"digits_v1.mar", "digits_v2.mar"}
    rollback("v1")
    assert {path.name for path in (deploy_volume / "model-store").iterdir()} == {"digits_v1.mar", "digits_v4.mar"}
    assert {path.name for path in (deploy_volume / "backup").iterdir()} == {"digits_v2.mar", "digits_v3.mar"}
    served("v5", keep=2)
    assert (deploy_volume / "model-store/digits_v1.mar").exists(), "served last before, so the last to go"


def test_a_damaged_archive_in_the_store_does_not_hide_a_whole_one(deploy_volume: Path) -> None:
    served("v1")
    served("v2")
    mar = deploy_volume / "model-store/digits_v1.mar"
    proven = deploy_volume.parent / "model/archive/v1/model.mar"
    proven.parent.mkdir(parents=True)
    proven.write_bytes(mar.read_bytes())
    mar.write_bytes(b"half")
    rollback()
    assert mar.read_bytes() == proven.read_bytes()


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

    from steps.deploy import switch as module

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


def test_the_command_says_all_of_it_without_a_traceback(volumes: Path) -> None:
    served("v1")
    command = [sys.executable, "-m", "steps.deploy", "rollback"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no version to go back to")
    assert done.stderr.count("\n") == 1
    told = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "default: the one served before the current" in told


def test_a_damaged_record_is_named(deploy_volume: Path) -> None:
    served("v1")
    served("v2")
    (deploy_volume / "versions/v1.json").write_text("{")
    with pytest.raises(StepError, match=r"versions/v1\.json cannot be read .* restore it, or remove it"):
        rollback()
    assert current() == "v2"


def test_the_records_hold_what_the_pointer_said(deploy_volume: Path) -> None:
    served("v1", test="t", accuracy=0.875)
    served("v2")
    record = json.loads((deploy_volume / "versions/v1.json").read_text())
    assert (record["test"], record["accuracy"]) == ("t", 0.875)
    assert not {"rolled_back", "switched", "rollout"} & set(record)
    rollback()
    pointer = read_pointer()
    assert pointer is not None
    assert {key: pointer[key] for key in record} == record
