"""`make gc YES=1` beside a real run, again and again: the run ends well, and the next one has nothing to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract.paths import ROOT
from tests.support.pipeline_run import QUICK, last_line, made_anew, run, run_command
from tests.support.small_run import pass_days

pytestmark = pytest.mark.slow


def gc(volumes: Path) -> list[str]:
    """Delete, and give the kinds of what was deleted."""
    command = [sys.executable, "-m", "steps.deploy", "gc", "--keep-days", "1", "--yes", "--json"]
    environment = {**os.environ, "VOLUMES": str(volumes)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [item["kind"] for item in json.loads(done.stdout)["delete"]]


def test_a_run_beside_gc_ends_as_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes = tmp_path / "volumes"
    monkeypatch.setenv("VOLUMES", str(volumes))
    other = {**QUICK, "train": {"epochs": 1}, "deploy": {"keep": 1}}
    assert last_line(run(volumes, {**other, "gate": {**QUICK["gate"], "baseline": 0.9999}})).startswith("REJECTED")
    pass_days(volumes, 100)
    # Its splits and its network are older than gc keeps, and nothing is deployed that needs them.
    process = subprocess.Popen(run_command(volumes, other), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    deleted: list[str] = []
    while process.poll() is None:
        deleted += gc(volumes)
    assert process.stdout
    assert process.stdout.read().splitlines()[-1].startswith("DEPLOYED")
    process.stdout.close()
    assert "verdict" in deleted
    assert last_line(run(volumes, other)).startswith("UNCHANGED")
    gc(volumes)
    again = run(volumes, other)
    assert last_line(again).startswith("UNCHANGED")
    assert made_anew(again) == set()


def test_what_is_served_is_still_compared_and_gone_back_to_after_gc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volumes = tmp_path / "volumes"
    monkeypatch.setenv("VOLUMES", str(volumes))
    settings = [
        {**QUICK, "train": {"epochs": 1, "seed": seed}, "gate": {**QUICK["gate"], "on_tie": "replace"}}
        for seed in (0, 1)
    ]
    first = last_line(run(volumes, settings[0])).split()[1].strip(":")
    pass_days(volumes, 100)
    gc(volumes)
    second = run(volumes, settings[1])
    assert made_anew(second) >= {"train", "analyse"}
    verdicts = [json.loads(path.read_text()) for path in (volumes / "model/verdict").glob("*/verdict.json")]
    (compared,) = (verdict for verdict in verdicts if verdict["champion"] == first and verdict["comparison"])
    assert compared["comparison"]["images"] > 900, "the test images, which neither has had"
    pass_days(volumes, 100)
    gc(volumes)
    environment = {**os.environ, "VOLUMES": str(volumes)}
    for words in (["versions"], ["rollback", "--version", first]):
        done = subprocess.run(
            [sys.executable, "-m", "steps.deploy", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert first in done.stdout
