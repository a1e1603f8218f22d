"""Fixtures of the tests of Kubeflow: a stand-in server on loopback, and a committed project."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline.kubeflow import submit
from pipeline.kubeflow.compile import write_package
from pipeline.settings import Project
from steps.registry import STEP_NAMES
from tests.stand_ins.kfp import Kfp, node
from tests.stand_ins.kfp_http import Server
from tests.support.forked import Forked
from tests.support.kfp_callers import ignore_callers
from tests.support.kubeflow_project import DEPLOYED, IMPORTS, Run, environment, git, log
from tests.support.settings import PARAMS_FILE, PROJECT_FILE


@pytest.fixture(scope="module", autouse=True)
def _settings_without_a_look_at_the_caller() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        ignore_callers(patched.setattr)
        yield


@pytest.fixture
def kfp() -> Kfp:
    made = Kfp()
    made.script, made.logs = list(DEPLOYED), {node(step): log(step) for step in STEP_NAMES}
    return made


@pytest.fixture
def server(kfp: Kfp) -> Iterator[Server]:
    with Server(kfp) as running:
        yield running


@pytest.fixture(scope="session")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with everything committed."""
    folder = tmp_path_factory.mktemp("committed") / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("contract", "pipeline", "steps", "serving", "infra/pv-pvc"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for file in (PROJECT_FILE, PARAMS_FILE, ROOT / ".gitignore"):
        shutil.copy2(file, folder)
    git(folder, "init", "--quiet")
    return folder


@pytest.fixture(scope="session")
def forked(committed: Path) -> Iterator[Forked]:
    with Forked(committed, "pipeline", IMPORTS, os.environ) as commands:
        yield commands


@pytest.fixture
def registered(committed: Path, server: Server) -> Path:
    """The committed project; its registry is the stand-in."""
    path = committed / "project.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "registry": server.address}))
    git(committed, "add", "--all")
    git(committed, "commit", "--quiet", "--allow-empty", "-m", "One")
    return committed


@pytest.fixture(scope="session")
def packages() -> dict[str, bytes]:
    """The packages that were compiled, by what they were compiled from."""
    return {}


@pytest.fixture
def compiled_once(packages: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit` compiles each package once, which takes longer than all that it does with it."""

    def write(project: Project, path: Path, inputs: dict[str, Any] | None = None) -> None:
        made_of = repr((project, inputs))
        if made_of not in packages:
            write_package(project, path, inputs)
            packages[made_of] = path.read_bytes()
        path.write_bytes(packages[made_of])

    monkeypatch.setattr(submit, "write_package", write)


@pytest.fixture
def run(registered: Path, forked: Forked, server: Server) -> Run:
    """Run a command of the project, whose registry and Kubeflow are the stand-in."""
    return lambda *words, **more: forked.run(*words, environment=environment(server, **more))


@pytest.fixture
def run_anew(registered: Path, server: Server) -> Run:
    """The same, imports and all."""
    return lambda *words, **more: subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=registered,
        env=environment(server, **more),
        capture_output=True,
        text=True,
        check=False,
    )
