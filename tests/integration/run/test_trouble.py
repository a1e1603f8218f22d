"""Runs that are killed, that run at the same time, or whose volumes are full or read-only."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.paths import ROOT
from steps.common.store import MANIFEST, read
from steps.registry import STEP_NAMES
from tests.support.once import made_once
from tests.support.pipeline_run import QUICK, last_line, made_anew, run, run_command, seconds


def wait_for(log: Path, text: str, run: subprocess.Popen[str]) -> None:
    """Wait until the run's log contains a text; fail if the run ends before."""
    while not any(text in path.read_text() for path in log.glob("*.log")):
        assert run.poll() is None, run.communicate()
        time.sleep(0.005)


def start(volumes: Path) -> subprocess.Popen[str]:
    volumes.mkdir(parents=True, exist_ok=True)
    command = run_command(volumes, QUICK)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes)


def artefacts(volumes: Path) -> Iterator[tuple[str, str]]:
    """Kind and id of every artefact; each file of each is read and checked."""
    for manifest in volumes.glob(f"*/*/*/{MANIFEST}"):
        folder = manifest.parent
        if not folder.name.startswith("."):
            read(folder.parent.parent, folder.parent.name, folder.name)
            yield folder.parent.name, folder.name


def leftovers(volumes: Path) -> list[Path]:
    return [path for path in volumes.glob("*/*/.*") if path.is_dir()]


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The volumes of a run that nothing disturbed."""

    def make(folder: Path) -> None:
        (folder / "volumes").mkdir(parents=True, exist_ok=True)
        assert last_line(run(folder / "volumes", QUICK)).split()[0] == "DEPLOYED"

    return made_once(tmp_path_factory, worker_id, "undisturbed", make)[0] / "volumes"


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.6, 1.8])
def test_a_run_killed_in_every_step_ends_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: Path, delay: float
) -> None:
    volumes = tmp_path / "volumes"
    for step in STEP_NAMES:
        killed = start(volumes)
        try:
            wait_for(volumes / "logs", f'{{"event": "started", "step": "{step}"}}', killed)
            time.sleep(delay)
        finally:
            os.killpg(killed.pid, signal.SIGKILL)
            killed.communicate()
        for log in (volumes / "logs").glob("*.log"):
            log.unlink()
        set(artefacts(volumes))
        if delay < 1:
            assert not (volumes / "deploy-model/current.json").exists()
    ended = run(volumes, QUICK)
    assert last_line(ended).split()[0] in ("DEPLOYED", "UNCHANGED")
    assert leftovers(volumes) == []
    assert list((volumes / "model/checkpoints").iterdir()) == []

    assert by_recipe(volumes) == by_recipe(undisturbed)
    assert {kind for kind, _ in artefacts(volumes)} == {kind for kind, _ in artefacts(undisturbed)}
    assert set(seconds(run(volumes, QUICK)).values()) == {"unchanged"}


def by_recipe(volumes: Path) -> set[tuple[str, str]]:
    """Without what has an id by the bytes of a network: a training that goes on ends in other bytes."""
    of_bytes = {"calibration", "evaluation", "verdict", "archive"}
    return {(kind, id) for kind, id in artefacts(volumes) if kind not in of_bytes}


@pytest.mark.slow
def test_a_killed_step_fails_the_run_by_name_and_the_next_goes_on(tmp_path: Path) -> None:
    volumes = tmp_path / "volumes"
    process = start(volumes)
    wait_for(volumes / "logs", '"event": "epoch"', process)
    subprocess.run(["pkill", "-KILL", "--session", str(process.pid), "-f", "executor_main"], check=True)
    _, said = process.communicate()
    assert process.returncode == 1
    assert re.match(r"error: train failed: it ended without an error message; the end of .*\.log may say why", said)
    again = run(volumes, QUICK)
    assert last_line(again).startswith("DEPLOYED ")
    assert "preprocess" not in made_anew(again)
    assert "resuming after epoch" in again.stdout or "epoch 1/2" in again.stdout


@pytest.mark.slow
def test_two_runs_at_once_both_end_well(tmp_path: Path) -> None:
    volumes = tmp_path / "volumes"
    both = [start(volumes) for _ in range(2)]
    ends = [(process.communicate()[0], process.returncode) for process in both]
    assert [status for _, status in ends] == [0, 0]
    words = {output.splitlines()[-1].split()[0] for output, _ in ends}
    assert "DEPLOYED" in words
    assert words <= {"DEPLOYED", "UNCHANGED"}
    assert leftovers(volumes) == []
    kinds = [kind for kind, _ in artefacts(volumes)]
    assert sorted(set(kinds) - {"verdict"}) == sorted(
        ["dataset", "validation", "network", "embeddings", "index", "calibration", "evaluation", "archive"]
    )
    assert kinds.count("network") == kinds.count("archive") == 1
    assert last_line(run(volumes, QUICK)).startswith("UNCHANGED ")


def run_on_mount(volumes: Path, options: str) -> subprocess.CompletedProcess[str]:
    """Run the pipeline in its own mount namespace, on volumes that are mounted like this and hold a pointer."""
    volumes.mkdir()
    command = run_command(volumes, QUICK)
    script = f'mount -t tmpfs -o size=2m tmpfs "{volumes}" && cd "{volumes}" && mkdir data model deploy-model logs && '
    script += (
        f'echo old > deploy-model/current.json && cd / && mount -o remount,{options} "{volumes}" && cd "{ROOT}" && '
    )
    script += f'("$@"; echo "status $?"; cat "{volumes}/deploy-model/current.json")'
    shell = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", *command]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine has no mount namespaces for users: {done.stderr.strip()}")
    return done


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
def test_a_full_disk_stops_the_run_by_name_and_leaves_the_pointer(tmp_path: Path) -> None:
    done = run_on_mount(tmp_path / "volumes", "rw")
    assert re.search(r"preprocess failed: \d+ images to decode need up to .* on the volume of .*/volumes", done.stderr)
    assert done.stdout.endswith("status 1\nold\n")
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces are Linux's")
def test_unwritable_volumes_stop_the_run_by_name_and_leave_the_pointer(tmp_path: Path) -> None:
    done = run_on_mount(tmp_path / "volumes", "ro")
    assert re.match(
        rf"error: {tmp_path}/volumes/logs.* cannot be written \(Read-only file system\): make it wri", done.stderr
    )
    assert done.stdout.endswith("status 1\nold\n")
    assert "Traceback" not in done.stderr + done.stdout
