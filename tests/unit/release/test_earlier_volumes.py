"""Volumes that earlier versions of this project wrote, before the journal told states: read, and gone on with."""

import json
import shutil
from pathlib import Path

import pytest

from contract.journal import Template
from contract.pointer import Note
from serving.pointer import check_archive
from serving.pointer import read_pointer as served_pointer
from steps.common.pointer import read_pointer
from steps.deploy.__main__ import main
from steps.deploy.release.journal import opened, read_status
from steps.deploy.release.rollback import rollback
from steps.deploy.release.switch import SwitchError
from steps.deploy.release.versions import rebuild, versions
from tests.stand_ins.kubernetes import Cluster, waiting
from tests.support.switching import log, pointed, serve, served, switches, write_archive

EARLIER = Path(__file__).parent / "earlier_volumes"
ROLLED_BACK = [
    ("deployed", None, "v1"),
    ("deployed", "v1", "v2"),
    ("deployed", "v2", "v3"),
    ("rolled-back", "v3", "v2"),
]
NOTE = Note("v3", "n-v3", "i-v3", "2026-01-02T03:04:05+00:00")


def lay(volume: Path, name: str) -> None:
    shutil.copytree(EARLIER / name, volume, dirs_exist_ok=True)


@pytest.fixture
def rolled_back(deploy_volume: Path) -> Path:
    """v1, v2 and v3 were deployed, and v2 was gone back to."""
    lay(deploy_volume, "rolled-back")
    for version in ("v1", "v2", "v3"):
        (deploy_volume / f"model-store/digits_{version}.mar").write_text(f"archive of {version}")
    return deploy_volume


def test_serving_reads_them(rolled_back: Path) -> None:
    for version in ("", "v1", "v3"):
        pointer = served_pointer(rolled_back, version)
        assert pointer.version == (version or "v2")
        check_archive(pointer)


def test_the_table_is_as_before_and_nothing_disagrees(rolled_back: Path) -> None:
    before = {path: path.read_bytes() for path in rolled_back.rglob("*") if path.is_file()}
    table = versions()
    assert [row.split()[0] for row in table[1:]] == ["v1", "*", "2026-01-02T03:04:05+00:00", "v3"], table
    assert "0a1b-run" in table[-1]
    assert {path: path.read_bytes() for path in rolled_back.rglob("*") if path.is_file()} == before


def test_they_are_taken_over_once_and_gone_on_with(rolled_back: Path) -> None:
    lines = (rolled_back / "audit.jsonl").read_bytes()
    pointer = (rolled_back / "current.json").read_bytes()
    with opened():
        pass
    grown = (rolled_back / "audit.jsonl").read_bytes()
    assert grown.startswith(lines)
    assert (rolled_back / "current.json").read_bytes() == pointer, "nothing changes what is served"
    with opened():
        pass
    assert (rolled_back / "audit.jsonl").read_bytes() == grown
    assert switches() == ROLLED_BACK
    assert pointed().rolled_back == (NOTE,)
    v1 = read_status().records["v1"]
    assert (v1.accuracy, v1.dataset, v1.prediction) == (
        *(0.9, "d1"),
        {"expected": "7", "answer": {"label": "7", "distance": 0.125}},
    )
    assert rollback() == "ROLLED BACK to v1 (was v2)"
    assert [note.version for note in pointed().rolled_back] == ["v3", "v2"]
    served("v4")
    assert switches() == [*ROLLED_BACK, ("rolled-back", "v2", "v1"), ("deployed", "v1", "v4")]
    (rolled_back / "versions/v3.json").unlink()
    assert rebuild() == ["versions/v3.json was written from the journal"]
    assert rollback("v3") == "ROLLED BACK to v3 (was v4)"


def test_a_line_that_the_run_before_could_not_write_is_taken_from_the_pointer(rolled_back: Path) -> None:
    log = rolled_back / "audit.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    with opened():
        pass
    assert switches() == ROLLED_BACK
    assert read_status().history[-1].by == "somebody@here"


def test_a_pointer_from_before_there_was_a_log_is_taken_over(rolled_back: Path) -> None:
    (rolled_back / "audit.jsonl").unlink()
    path = rolled_back / "current.json"
    content = json.loads(path.read_text())
    del content["switched"], content["rolled_back"]
    path.write_text(json.dumps(content))
    served("v4")
    assert switches() == [("deployed", None, "v2"), ("deployed", "v2", "v4")]
    assert read_status().history[0].at == "2026-01-02T03:04:05+00:00"
    assert rollback() == "ROLLED BACK to v2 (was v4)"


@pytest.mark.parametrize("log_is_whole", [True, False])
@pytest.mark.parametrize("then", ["well", "broken", "another"])
def test_a_rollout_that_was_killed_is_gone_on_with(
    cluster: Cluster, volumes: Path, then: str, log_is_whole: bool
) -> None:
    lay(volumes / "deploy-model", "unfinished")
    for version in ("v1", "v2"):
        write_archive(volumes / f"deploy-model/model-store/digits_{version}.mar", version)
    before = cluster.deployment["spec"]["template"]
    before["metadata"]["annotations"] = {"continuous-training/model-version": "v1"}
    before["spec"]["containers"][0]["image"] = "serving:1"
    if not log_is_whole:
        path = volumes / "deploy-model/audit.jsonl"
        path.write_text(path.read_text().splitlines(keepends=True)[0])
    with opened() as journal:
        assert journal.status.template == Template("v1", "serving:1")
        assert journal.status.confirmed
        assert journal.status.confirmed.version == "v1"
    deployed = [("deployed", "v1"), ("deployed", "v2")]
    assert log() == deployed
    if then == "well":
        assert serve("v2", image="serving:2")
        assert (cluster.stamp, cluster.image, log()) == ("v2", "serving:2", deployed)
    else:
        version = "v2" if then == "broken" else "v3"
        cluster.broken[version] = waiting("ImagePullBackOff", "")
        with pytest.raises(SwitchError, match=f"{version} was not rolled out, and v1 is served as before"):
            serve(version, image="serving:2")
        assert (cluster.stamp, cluster.image, pointed().version) == ("v1", "serving:1", "v1")
        assert log()[-1] == ("undone", "v1")
    assert read_status().finished


def test_the_first_model_whose_rollout_was_killed_leaves_nothing_to_go_back_to(
    cluster: Cluster, volumes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(volumes / "deploy-model", "unfinished")
    write_archive(volumes / "deploy-model/model-store/digits_v2.mar", "v2")
    path = volumes / "deploy-model/current.json"
    content = json.loads(path.read_text())
    content["rollout"] = {"before": None, "template": {"version": None, "image": "serving:old"}}
    path.write_text(json.dumps(content))
    cluster.broken["v2"] = waiting("ImagePullBackOff", "")
    with pytest.raises(SwitchError, match="v2 was not rolled out, and nothing is served as before"):
        serve("v2", image="serving:2")
    assert (cluster.stamp, cluster.image, read_pointer()) == (None, "serving:old", None)
    assert main(["versions"]) == 0
    assert "not confirmed" not in capsys.readouterr().out
