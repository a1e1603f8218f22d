"""`login`: Docker's login at the registry, with credentials from the environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.paths import ROOT


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_without_credentials_nothing_is_done() -> None:
    done = run("login", REGISTRY_USER="", REGISTRY_PASSWORD="")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no login" in done.stdout


@pytest.mark.parametrize("name", ["REGISTRY_USER", "REGISTRY_PASSWORD"])
def test_one_credential_alone_is_refused(name: str) -> None:
    done = run("login", **{name: "x"})
    assert done.returncode == 2
    assert "only one is set" in done.stderr


def test_a_login_needs_docker(tmp_path: Path) -> None:
    done = run("login", REGISTRY_USER="x", REGISTRY_PASSWORD="y", PATH=str(tmp_path))
    assert done.returncode == 2
    assert "Docker is needed" in done.stderr
