"""The code of the model archive: complete, and independent of the project, as TorchServe's worker imports it."""

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.paths import ROOT
from steps.deploy.archive import CODE, HANDLER

FILES = (HANDLER, *CODE)
PACKAGES = {path.parent.name for path in ROOT.glob("*/__init__.py")}
IMPORT = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""


def test_the_archive_holds_every_module_of_its_folder() -> None:
    modules = {f"serving/model/{path.name}" for path in (ROOT / "serving/model").glob("*.py")}
    others = {"steps/common/images/decode.py", "contract/loop/collected.py"}
    assert set(FILES) == modules - {"serving/model/__init__.py"} | others
    assert len(FILES) == len(set(FILES)) == len({Path(path).name for path in FILES})


@pytest.mark.slow
def test_it_can_be_imported_from_an_empty_folder_without_the_project(tmp_path: Path) -> None:
    for path in FILES:
        shutil.copy(ROOT / path, tmp_path)
    names = [Path(path).stem for path in FILES]
    words = [sys.executable, "-c", IMPORT, *names]
    done = subprocess.run(words, cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = json.loads(done.stdout)
    assert {Path(imported[name]).parent for name in names} == {tmp_path}
    assert {name.partition(".")[0] for name in imported} & PACKAGES == set()


def imports(path: str) -> Iterator[str]:
    """The packages that a file imports, inside functions too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." if node.level else str(node.module).partition(".")[0]


@pytest.mark.parametrize("path", FILES)
def test_no_function_of_it_imports_the_project_either(path: str) -> None:
    assert {"serving", "steps"} <= PACKAGES
    assert set(imports(path)) & {*PACKAGES, "."} == set()
