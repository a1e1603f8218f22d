"""Every lock can be installed on every machine that is promised: wheels with the locks' hashes. It asks the index."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract.paths import ROOT
from install.pythons import KNOWN
from pipeline.images.lock import locks

PLATFORMS = ("x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "aarch64-apple-darwin")
WITHOUT_WHEELS = ("kfp-server-api",)  # which is Python alone, and is built in a moment anywhere


@pytest.mark.slow
@pytest.mark.parametrize("python", KNOWN)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_lock_has_a_wheel_of_each_package(platform: str, python: str, tmp_path: Path) -> None:
    from install.pip_settings import environment, for_uv, read

    variables = {**environment(), **(for_uv(read(sys.executable)) or {}), "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    variables.pop("UV_CONSTRAINT", None)  # has no hashes, which uv then refuses
    command = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--require-hashes",
    ]
    command += ["--only-binary=:all:", *(f"--no-binary={name}" for name in WITHOUT_WHEELS), f"--target={tmp_path}"]
    command += [f"--python-version={python}", f"--python-platform={platform}"]
    for lock in locks():
        done = subprocess.run(
            [*command, f"--requirements={lock}"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{lock}: {done.stderr}"


def test_what_has_no_wheel_is_named() -> None:
    said = (ROOT / "docs/install.md").read_text()
    assert [name for name in WITHOUT_WHEELS if f"`{name}`" not in said] == []
