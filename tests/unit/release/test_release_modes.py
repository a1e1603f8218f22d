"""What a release writes has the same modes under every umask: others on the node read it and cannot change it."""

import os
from pathlib import Path

import pytest

from steps.common import progress
from steps.deploy.__main__ import main
from tests.support.switching import current, served

FILE, FOLDER = 0o644, 0o755


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_release_and_a_rollback_leave_the_same_modes(deploy_volume: Path, umask: int) -> None:
    (deploy_volume / "model-store").rmdir()
    deploy_volume.rmdir()
    before = os.umask(umask)
    try:
        with progress.running("deploy"):
            (deploy_volume / "model-store").mkdir(parents=True)
            for version in ("v1", "v2"):
                served(version, keep=1)
        assert main(["rollback"]) == 0
        assert main(["versions", "--rebuild"]) == 0
    finally:
        os.umask(before)
    assert current() == "v1"
    wrong = {
        str(path.relative_to(deploy_volume)): oct(path.stat().st_mode & 0o777)
        for path in deploy_volume.rglob("*")
        if path.stat().st_mode & 0o777 != (FOLDER if path.is_dir() else FILE)
    }
    assert wrong == {}
