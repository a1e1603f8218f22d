"""The import contracts of pyproject.toml find a wrong import, and folders stay small."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from contract.paths import ROOT
from tests.support.named_files import repository_files

RULES = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PACKAGES = tuple(tomllib.loads(RULES)["tool"]["importlinter"]["root_packages"])
WRONG = [
    ("layers", "serving/client.py", "import steps.common.digest"),
    ("layers", "contract/paths.py", "import serving.client"),
    ("layers", "steps/common/store.py", "import pipeline.settings"),
    ("layers", "install/torch.py", "import contract.paths"),
    ("pipeline", "pipeline/kubeflow/client.py", "import pipeline.local.run"),
    ("pipeline", "pipeline/images/docker.py", "import pipeline.kubeflow.client"),
    ("model", "serving/model/payload.py", "from serving import client"),
    ("model", "serving/model/handler.py", "from contract.paths import ROOT"),
    ("torchserve", "serving/torchserve/server.py", "import serving.follow"),
    ("steps", "steps/embed/embed.py", "from steps.train.arcface import ArcFace"),
    ("steps", "steps/common/store.py", "def late():\n    from steps.train import train"),
    ("circles", "steps/train/arcface.py", "import steps.train.train"),
    ("circles", "pipeline/settings.py", "import pipeline.pipeline"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages, to be written to."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path, *contracts: str) -> subprocess.CompletedProcess[str]:
    """Check these contracts in `folder`, or all of them."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache"]
    command += [word for contract in contracts for word in ("--contract", contract)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_contract_is_kept(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout
    assert {contract for contract, _, _ in WRONG} == set(re.findall(r'^id = "(.+)"$', RULES, re.MULTILINE))


@pytest.mark.parametrize(("contract", "file", "line"), WRONG)
def test_a_wrong_import_breaks_its_contract(tree: Path, contract: str, file: str, line: str) -> None:
    with (tree / file).open("a") as source:
        source.write(f"{line}\n")
    done = lint(tree, contract)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
    module = file.removesuffix(".py").replace("/", ".")
    assert module in done.stdout or contract == "circles"


def test_no_folder_holds_more_than_fourteen_modules() -> None:
    modules = Counter(path.parent for path in repository_files(ROOT) if path.suffix == ".py" and path.stem[:2] != "__")
    product = {str(folder): count for folder, count in modules.items() if folder.parts and folder.parts[0] in PACKAGES}
    assert {"steps/common", "pipeline/kubeflow"} <= set(product)
    assert {folder: count for folder, count in product.items() if count > 14} == {}
