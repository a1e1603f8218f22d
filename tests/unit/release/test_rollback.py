"""Going back to an earlier version: verified before anything changes, noted, and taken back by name."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.paths import ROOT
from contract.pointer import Record
from steps.common.errors import StepError
from steps.common.pointer import read_pointer
from steps.deploy.__main__ import main
from steps.deploy.release.journal import read_status
from steps.deploy.release.rollback import rollback
from tests.support.switching import current, served, switches

pytestmark = pytest.mark.usefixtures("deploy_volume")


def test_the_version_before_is_served_again_and_the_one_left_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    served("v1")
    served("v2")
    assert main(["rollback"]) == 0
    follows = "a running server takes it within seconds, or its log says why not"
    assert capsys.readouterr().out.splitlines()[-1] == f"ROLLED BACK to v1 (was v2); {follows}"
    pointer = read_pointer()
    assert pointer is not None
    assert (pointer.version, pointer.mar, pointer.network) == ("v1", "digits_v1.mar", "n-v1")
    assert [(note.version, note.network, note.index) for note in pointer.rolled_back] == [("v2", "n-v2", "i-v2")]
    reason = pointer.why_out_of_service("n-v2", "i-v2")
    assert reason is not None
    assert reason.endswith("make rollback VERSION=v2 puts it back")
    assert switches() == [("deployed", None, "v1"), ("deployed", "v1", "v2"), ("rolled-back", "v2", "v1")]


def test_again_and_again_goes_further_back_until_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("v1", "v2", "v3"):
        served(version)
    assert [rollback(), rollback()] == ["ROLLED BACK to v2 (was v3)", "ROLLED BACK to v1 (was v2)"]
    before = (read_pointer(), read_status())
    assert main(["rollback"]) == 2
    assert "error: there is no version to go back to: none was served before v1; the versions are v1, v2, v3" in (
        capsys.readouterr().err
    )
    assert (read_pointer(), read_status()) == before


def test_forward_again_takes_the_note_off_and_leaves_none() -> None:
    for version in ("v1", "v2", "v3"):
        served(version)
    rollback("v1")
    rollback("v3")
    pointer = read_pointer()
    assert pointer is not None
    assert (pointer.version, pointer.rolled_back) == ("v3", ())
    assert rollback() == "ROLLED BACK to v1 (was v3)", "which was served before it"


def test_a_version_skipped_stays_allowed_and_a_later_deployment_keeps_the_notes() -> None:
    for version in ("v1", "v2", "v3"):
        served(version)
    rollback("v1")
    served("v4")
    pointer = read_pointer()
    assert pointer is not None
    assert [note.version for note in pointer.rolled_back] == ["v3"]
    assert pointer.why_out_of_service("n-v2", "i-v2") is None
    assert rollback() == "ROLLED BACK to v1 (was v4)"


def test_what_is_served_already_is_said_and_logged_no_second_time(capsys: pytest.CaptureFixture[str]) -> None:
    served("v1")
    served("v2")
    before = (read_pointer(), read_status())
    assert main(["rollback", "--version", "v2"]) == 0
    assert capsys.readouterr().out == "v2 is served already\n"
    assert (read_pointer(), read_status()) == before


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
    before = (read_pointer(), read_status())
    assert main(["rollback"]) == 2
    assert message in capsys.readouterr().err
    assert (read_pointer(), read_status()) == before


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


def test_the_command_says_all_of_it_without_a_traceback(volumes: Path) -> None:
    served("v1")
    command = [sys.executable, "-m", "steps.deploy", "rollback"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no version to go back to")
    assert done.stderr.count("\n") == 1
    told = subprocess.run([*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "default: the one served before the current" in told


def test_a_damaged_record_that_the_journal_does_not_know_is_named(deploy_volume: Path) -> None:
    served("v1")
    served("v2")
    (deploy_volume / "versions/v0.json").write_text("{")
    with pytest.raises(StepError, match=r"versions/v0\.json cannot be read .* restore it, or remove it"):
        rollback()
    assert current() == "v2"


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: path.unlink()])
def test_a_record_that_the_journal_knows_is_written_anew(deploy_volume: Path, spoil: Callable[[Path], None]) -> None:
    served("v1")
    served("v2")
    path = deploy_volume / "versions/v1.json"
    before = path.read_bytes()
    spoil(path)
    assert rollback() == "ROLLED BACK to v1 (was v2)"
    assert path.read_bytes() == before


def test_the_records_hold_what_the_pointer_said(deploy_volume: Path) -> None:
    served("v1", test="t", accuracy=0.875)
    served("v2")
    record = json.loads((deploy_volume / "versions/v1.json").read_text())
    assert (record["test"], record["accuracy"]) == ("t", 0.875)
    assert not {"rolled_back", "switched", "rollout"} & set(record)
    rollback()
    pointer = read_pointer()
    assert pointer is not None
    assert pointer.record == Record.parsed(record)
