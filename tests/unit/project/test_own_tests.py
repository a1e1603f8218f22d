"""The tests themselves: `pytest` finds them from any folder, and they import what they share in one way."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.paths import ROOT

TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "__pycache__" not in path.parts)
EXAMPLE = "tests/unit/project/test_pre_commit.py"


@pytest.mark.parametrize("folder", [".", "tests", "tests/unit/project", "steps", None])
def test_pytest_works_in_any_folder(tmp_path: Path, folder: str | None) -> None:
    where = tmp_path if folder is None else ROOT / folder
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHONPATH"))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take seconds
    program = Path(sys.executable).with_name("pytest")
    command = [program, "-q", "-p", "no:cacheprovider", os.path.relpath(ROOT / EXAMPLE, where)]
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def imported(source: str) -> list[str]:
    """The modules of `tests` that a source imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [node.module or "."] if (node.module or "").count(".") > 1 else whole
    return [name for name in found if name.split(".")[0] == "tests"]


def test_what_tests_share_is_imported_by_its_full_name() -> None:
    modules = {path: imported(path.read_text(encoding="utf-8")) for path in TESTS}
    assert sum(map(len, modules.values())) > 50
    wrong = {
        (str(path.relative_to(ROOT)), name)
        for path, names in modules.items()
        for name in names
        if not re.fullmatch(r"tests\.(support|stand_ins)\.\w+", name)
    }
    assert wrong == set()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from tests.conftest import volumes", "tests.conftest.volumes"),
        ("from tests import support", "tests.support"),
        ("import tests.unit.steps.test_store", "tests.unit.steps.test_store"),
        ("from tests.unit.steps.test_store import x", "tests.unit.steps.test_store"),
        ("from tests.support import examples", "tests.support.examples"),
        ("from tests.support.examples import PARAMS", "tests.support.examples"),
    ],
)
def test_imports_are_found(line: str, name: str) -> None:
    assert imported(line) == [name]
