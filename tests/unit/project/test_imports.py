"""A step imports its heavy libraries only when it has work: their import is most of the cost of an unchanged step."""

import subprocess
import sys

import pytest

from contract.paths import ROOT
from steps.registry import STEP_NAMES

HEAVY = {"torch", "faiss", "matplotlib", "PIL", "kfp", "requests", "pooch", "serving", "ts", "rich", "yaml"}


def imported_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("step", STEP_NAMES)
def test_importing_a_step_imports_nothing_heavy(step: str) -> None:
    assert not imported_by(f"import steps.{step}.{step}") & (HEAVY | {"numpy", "filelock"})


def test_indexing_needs_no_torch() -> None:
    code = (
        "import os, tempfile\nos.environ['VOLUMES'] = tempfile.mkdtemp()\nimport numpy as np\n"
        "from steps.common.store import produce\nfrom steps.common.volumes import model_volume\n"
        "def build(folder):\n"
        "    np.save(folder / 'embeddings.npy', np.eye(4, dtype=np.float32))\n"
        "    np.save(folder / 'features.npy', np.eye(4, dtype=np.float16))\n"
        "    (folder / 'labels.json').write_text('{}')\n    return {}\n"
        "id = produce(model_volume(), 'embeddings', 'embed', parameters={}, inputs={}, build=build).id\n"
        "from steps.index.index import index\nindex(id, {'factory': 'Flat'})"
    )
    imported = imported_by(code)
    assert "faiss" in imported
    assert "torch" not in imported


def test_help_and_wrong_settings_do_not_wait_for_kfp() -> None:
    for words in (["run", "--help"], ["run", "--project", "none.yaml"], ["submit", "--params", "none.yaml"]):
        code = f"from pipeline.__main__ import main\ntry: main({words})\nexcept SystemExit: pass"
        assert not imported_by(code) & {"kfp", "torch", "rich"}


def test_a_run_on_this_machine_imports_no_client_of_servers() -> None:
    code = "import pipeline.local.run, os\nfrom kfp import dsl, local\nassert '_KFP_RUNTIME' not in os.environ\n"
    assert not imported_by(f"{code}dsl.component") & {"kubernetes", "kfp_server_api"}


def test_reading_the_parameters_imports_nothing_heavy() -> None:
    code = "from pathlib import Path\nfrom pipeline.settings import load_params\n"
    imported = imported_by(f"{code}load_params(Path('params.yaml'))")
    assert "yaml" in imported
    assert not imported & (HEAVY - {"yaml"} | {"numpy", "pydantic_settings"})
