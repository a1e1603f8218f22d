"""The modules of the model archive need nothing of the project: alone in an empty folder they can be imported."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from contract.paths import ROOT
from steps.deploy.archive import CODE, HANDLER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the archive's modules, and no other."""
    for path in (HANDLER, *CODE):
        shutil.copy(ROOT / path, tmp_path)
    return tmp_path


def import_all(folder: Path) -> subprocess.CompletedProcess[str]:
    """Import every module of a folder, in that folder, where the project cannot be found."""
    program = f"import {', '.join(path.stem for path in sorted(folder.glob('*.py')))}"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHONPATH", "COVERAGE"))}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_every_module_of_the_room_travels() -> None:
    room = {path.name for path in (ROOT / "serving/model").glob("*.py") if path.name != "__init__.py"}
    assert room <= {Path(path).name for path in (HANDLER, *CODE)}


def test_they_can_be_imported_without_the_project(folder: Path) -> None:
    done = import_all(folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line", ["import contract.paths", "from serving import client", "from serving.model import wire"]
)
def test_an_import_of_the_project_is_found(folder: Path, line: str) -> None:
    module = folder / "decode.py"
    module.write_text(f"{line}\n" + module.read_text())
    done = import_all(folder)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
