"""The recipes in CONTRIBUTING.md: their code is applied to a copy of the project, and runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from steps.registry import STEP_NAMES
from tests.support.pipeline_run import last_line, run, seconds
from tests.support.workflow_run import copied, lend_types

# A file, for an edit the line before or after which it is made, and the code.
RECIPE = re.compile(
    r"^`(?P<file>[\w./]+)`(?:, (?P<side>before|after) (?P<entry>the entry of )?`(?P<line>[^`\n]+)`)?.*:\n\n"
    r"```\w*\n(?P<code>(?s:.*?))^```$",
    re.MULTILINE,
)


def recipes() -> list[dict[str, str]]:
    """What CONTRIBUTING.md says, in its order."""
    return [match.groupdict() for match in RECIPE.finditer((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))]


def apply(recipe: dict[str, str], project: Path) -> None:
    """Write a new file, or insert the code beside the one line that begins with the one named, indented as it is."""
    path = project / recipe["file"]
    if not recipe["side"]:
        path.parent.mkdir(exist_ok=True)
        assert not path.exists(), path
        path.write_text(recipe["code"], encoding="utf-8")
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    named = f'name="{recipe["line"]}",' if recipe["entry"] else recipe["line"].lstrip()
    [place] = [number for number, line in enumerate(lines) if line.lstrip().startswith(named)]
    place -= 1 if recipe["entry"] else 0
    indent = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
    code = [indent + line if line.strip() else line for line in recipe["code"].splitlines(keepends=True)]
    at = place + (recipe["side"] == "after")
    path.write_text("".join([*lines[:at], *code, *lines[at:]]), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project to which every recipe was applied."""
    folder = copied(tmp_path_factory.mktemp("contributed") / "project")
    for recipe in recipes():
        apply(recipe, folder)
    return folder


def python(project: Path, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "GITHUB_OUTPUT"}
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_step_is_a_folder_a_target_an_entry_and_a_place_in_the_graph() -> None:
    files = [recipe["file"] for recipe in recipes()]
    assert [file for file in files if not file.startswith("steps/census/")][:4] == [
        "steps/Dockerfile",
        "steps/registry.py",
        "pipeline/components.py",
        "pipeline/pipeline.py",
    ]
    assert [file for file in files if "/sources/" in file] == [
        "steps/preprocess/sources/stripes.py",
        "steps/preprocess/sources/__init__.py",
    ]
    assert files[-3:] == ["steps/train/parameters.py", "steps/train/fit.py", "params.yaml"]


def test_the_code_is_clean(project: Path) -> None:
    files = sorted({recipe["file"] for recipe in recipes() if recipe["file"].endswith(".py")})
    for words in (("check",), ("format", "--check")):
        python(project, "-m", "ruff", *words, *files)


@pytest.mark.slow
def test_the_types_of_the_code_are_right(project: Path) -> None:
    lend_types(project / ".mypy_cache")
    python(project, "-m", "mypy")


@pytest.mark.slow
def test_a_new_step_has_its_image_its_pod_and_its_job(project: Path, tmp_path: Path) -> None:
    names = "import json; from pipeline.images.tag import NAMES; print(json.dumps(NAMES))"
    assert "census" in json.loads(python(project, "-c", names))
    python(project, "-m", "pipeline", "compile", "--output", str(tmp_path / "pipeline.yaml"))
    pipeline, platform = yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())
    dags = [component["dag"] for component in pipeline["components"].values() if "dag" in component]
    [tasks] = [dag["tasks"] for dag in dags if "census" in dag["tasks"]]
    assert tasks["census"]["taskInfo"]["name"] == "count classes"
    container = pipeline["deploymentSpec"]["executors"]["exec-census"]["container"]
    assert re.fullmatch(r".*-census:[0-9a-f]{16}", container["image"])
    assert container["resources"]["resourceMemoryLimit"] == "2Gi"
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert [mount["mountPath"] for mount in executors["exec-census"]["pvcMount"]] == ["/data"]
    target = (project / "steps/Dockerfile").read_text().split(" AS census\n")[1].split("\nFROM ")[0]
    code = "from pipeline.images.tag import sources; print(*sources('census'))"
    copies = set(re.findall(r"^COPY (\S+) ", target, re.MULTILINE))
    assert set(python(project, "-c", code).split()) == copies - {"steps/census/requirements.txt"}


def test_a_new_field_changes_the_id_of_its_step_alone_and_its_range_holds(project: Path) -> None:
    code = (
        "import sys, yaml\nfrom pathlib import Path\nfrom pipeline.settings import SettingsError, load_params\n"
        "given = yaml.safe_load(Path('params.yaml').read_text())\n"
        "def train(**change):\n"
        "    changed = {**given, 'train': {**given['train'], **change}}\n"
        "    Path('changed.yaml').write_text(yaml.safe_dump(changed))\n"
        "    return load_params(Path('changed.yaml')).train\n"
        "print(train().deciding()['max_gradient'], train(max_gradient=7).max_gradient)\n"
        "del given['train']['max_gradient']\nprint(train().max_gradient)\n"
        "try:\n    train(max_gradient=0)\nexcept SettingsError as error:\n    print(error)\n"
    )
    first, second, third = python(project, "-c", code).splitlines()
    assert (first, second) == ("50.0 7.0", "100.0")
    assert third == "changed.yaml: train.max_gradient: is 0; input should be greater than 0"


@pytest.mark.slow
def test_the_pipeline_runs_with_the_new_step_and_the_new_source(project: Path, tmp_path: Path) -> None:
    change: dict[str, dict[str, Any]] = {"data": {"source": "stripes", "stripes_count": 300}, "train": {"epochs": 2}}
    done = run(tmp_path / "volumes", change, root=project)
    assert last_line(done).split()[0] in ("DEPLOYED", "REJECTED")
    assert re.search(r"^census +\d+\.\d +2 classes *$", done.stdout, re.MULTILINE)
    assert set(seconds(done)) == set(STEP_NAMES)  # and the new one
    [counts] = (tmp_path / "volumes/data/census").glob("*/census.json")
    # Of its 300 images a fifth is for testing and a twelfth for validation, more or less.
    assert 180 < sum(json.loads(counts.read_text()).values()) < 240
