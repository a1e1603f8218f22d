"""A full disk under the log of a run: one sentence, and no traceback."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.local import run as run_module
from pipeline.local.run import run
from pipeline.outcome import RunError
from pipeline.settings import load_params, load_project
from tests.support.settings import PARAMS_FILE, PROJECT_FILE


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_is_named_with_the_remedy(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_prepare_volumes", lambda _: Path("/dev/full"))
    project, params = load_project(PROJECT_FILE), load_params(PARAMS_FILE)
    with pytest.raises(RunError, match=r"^/dev/full cannot be written \(No space left on device\): free some space"):
        run(project, params, volumes, Console(file=io.StringIO()))
