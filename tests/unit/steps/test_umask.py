"""What the steps write has the same modes under every umask: Argo runs them under 0, and a person may have 077."""

import os
from pathlib import Path

import pytest

from steps.common import progress
from tests.support.examples import PARAMS

FILE, FOLDER = 0o644, 0o755


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o777 for path in folder.rglob("*")}


@pytest.mark.parametrize("umask", [*(pytest.param(umask, marks=pytest.mark.slow) for umask in (0, 0o022)), 0o077])
def test_results_have_the_same_modes_under_every_umask(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    from steps.preprocess.preprocess import preprocess

    monkeypatch.setenv("RUN_ID", "r1")
    before = os.umask(umask)
    try:
        preprocess(PARAMS["data"])
        assert os.umask(umask) == umask, "the umask is that of before"
    finally:
        os.umask(before)
    found = modes(volumes)
    assert any(path.endswith("manifest.json") for path in found)
    assert "model/runs/r1/preprocess.json" in found
    assert {
        path: oct(mode) for path, mode in found.items() if mode != (FOLDER if (volumes / path).is_dir() else FILE)
    } == {}


def test_a_child_of_a_step_has_its_umask(volumes: Path) -> None:
    before = os.umask(0)
    try:
        with progress.running("train"):
            pid = os.fork()
            if pid == 0:
                os._exit(os.umask(0))
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0o022
    finally:
        os.umask(before)
