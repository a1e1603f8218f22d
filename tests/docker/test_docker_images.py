"""The images: their content, their user, and when they are built and pushed."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.images.docker import USER
from pipeline.images.platforms import here
from pipeline.images.tag import NAMES, source_files, sources, tag
from pipeline.settings import load_project
from steps.common.code.deciding import deciding_code
from steps.registry import STEP_NAMES
from tests.support.engine_tools import copy_out, docker, table

pytestmark = pytest.mark.docker


def test_an_image_that_is_there_is_not_built_again(pipeline: Callable, images: dict[str, str]) -> None:
    done = pipeline("images")
    assert done.returncode == 0
    assert table(done.stdout) == dict.fromkeys(NAMES, "there")
    assert set(images) == {*STEP_NAMES, "serving"}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_holds_its_own_sources_and_nothing_else(images: dict[str, str], tmp_path: Path, name: str) -> None:
    app = copy_out(images[name], "/app", tmp_path)
    held = {file.relative_to(app): file.read_bytes() for file in app.rglob("*") if file.is_file()}
    assert held == {file.relative_to(ROOT): file.read_bytes() for file in source_files(sources(name))}


@pytest.mark.parametrize("modes", [(0o700, 0o600), (0o777, 0o777)], ids=["umask 077", "a file system without modes"])
def test_the_modes_of_a_checkout_are_not_those_of_an_image(
    pipeline: Callable, project: Path, tmp_path: Path, modes: tuple[int, int]
) -> None:
    tree = tmp_path / "tree"
    for name in ("contract", "pipeline", "steps", "serving", ".dockerignore"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, tree / name)
    with (tree / "steps/index/index.py").open("a") as file:
        file.write(f"# {modes}\n")  # an image of its own
    for path in tree.rglob("*"):
        path.chmod(modes[0] if path.is_dir() else modes[1])
    done = pipeline("images", "index", root=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    image = references(load_project(project), here())["index"].rpartition(":")[0] + f":{tag('index', tree)}"
    listed = docker("run", "--rm", "--network=none", image, "find", "/app", "-printf", "%y%m\n").stdout
    assert set(listed.split()) == {"d755", "f644"}
    done = docker("run", "--rm", "--network=none", image, "python3", "-c", "import steps.index.index")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("step", STEP_NAMES)
def test_a_step_in_its_image_gives_its_results_the_ids_that_they_have_here(images: dict[str, str], step: str) -> None:
    module = "steps.deploy.archive" if step == "deploy" else f"steps.{step}.{step}"
    code = f"from steps.common.code.deciding import deciding_code; print(deciding_code({module!r}))"
    done = docker("run", "--rm", "--network=none", images[step], "python3", "-c", code)
    assert done.stdout.strip() == str(deciding_code(module))


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_labelled_and_does_not_run_as_root(images: dict[str, str], name: str) -> None:
    config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", images[name]).stdout)
    assert config["User"] == USER
    assert config["Labels"]["org.opencontainers.image.version"] == tag(name)
    assert config["Labels"]["org.opencontainers.image.title"] == name
    assert config["Labels"]["org.opencontainers.image.revision"]
    assert config["Labels"]["org.opencontainers.image.source"]
    assert ("Healthcheck" in config and config["Healthcheck"]["Test"] != ["NONE"]) == (name == "serving")


@pytest.mark.parametrize("name", NAMES)
def test_an_image_has_neither_compiler_nor_cache_nor_tests(images: dict[str, str], name: str) -> None:
    script = "for tool in cc gcc g++ clang make; do command -v $tool; done; "
    script += "find /app /root /tmp -name tests -o -name '*cache*' ! -name '*.py'"
    done = docker("run", "--rm", "--network=none", "--user=0", images[name], "sh", "-c", script)
    assert (done.stdout, done.stderr) == ("", "")


def test_torch_is_one_layer_of_all_that_have_it(images: dict[str, str]) -> None:
    layers = {
        name: json.loads(docker("image", "inspect", "--format", "{{json .RootFS.Layers}}", image).stdout)
        for name, image in images.items()
    }
    with_torch = [name for name in NAMES if "steps/torch.txt" in sources(name)]
    assert len(with_torch) == 5
    shared = set.intersection(*(set(layers[name]) for name in with_torch))
    base = set.intersection(*(set(found) for found in layers.values()))
    assert len(shared - base) >= 2  # torch and the files that say which
    assert layers["deploy"][: len(layers["serving"])] == layers["serving"]


def test_only_what_the_registry_lacks_is_pushed(pipeline: Callable, images: dict[str, str], registry: str) -> None:
    done = pipeline("push")
    assert done.returncode == 0, done.stdout + done.stderr
    assert table(done.stdout) == dict.fromkeys(NAMES, "pushed")
    # The registry decides, not the engine: it still holds an image that was removed here.
    assert docker("rmi", "--no-prune", images["validate"]).returncode == 0
    done = pipeline("push")
    assert done.returncode == 0, done.stdout + done.stderr
    assert table(done.stdout) == dict.fromkeys(NAMES, "there")
    assert docker("pull", images["validate"]).returncode == 0


def test_a_line_in_deploy_builds_and_pushes_one_image(
    pipeline: Callable, images: dict[str, str], tmp_path: Path
) -> None:
    assert pipeline("push").returncode == 0
    tree = tmp_path / "tree"
    for folder in ("contract", "pipeline", "steps", "serving"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".dockerignore", tree)
    done = pipeline("images", root=tree)
    assert table(done.stdout) == dict.fromkeys(NAMES, "there"), done.stderr
    with (tree / "steps/deploy/deploy.py").open("a") as file:
        file.write("# a comment\n")
    done = pipeline("images", root=tree)
    assert table(done.stdout) == {**dict.fromkeys(NAMES, "there"), "deploy": "built"}, done.stderr
    done = pipeline("push", root=tree)
    assert table(done.stdout) == {**dict.fromkeys(NAMES, "there"), "deploy": "pushed"}, done.stderr


def test_a_dockerfile_that_fails_says_why(pipeline: Callable, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for folder in ("contract", "pipeline", "steps", "serving"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "steps/validate/requirements.txt").write_text("no such package\n")
    done = pipeline("images", "validate", root=tree)
    assert done.returncode == 1
    assert done.stderr.startswith("error: docker build failed:")
    assert "Invalid requirement: 'no such package'" in done.stderr


def test_the_cuda_build_can_be_installed_where_images_are_built(tmp_path: Path) -> None:
    """The index has every package of the CUDA lock for Linux, with its hash; nothing is downloaded."""
    command = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--no-deps", "--require-hashes"]
    command += ["--python-version=3.11", "--python-platform=x86_64-unknown-linux-gnu", f"--target={tmp_path}"]
    locks = [ROOT / "steps/torch-cuda.txt", ROOT / "steps/torch-dependencies.txt"]
    command += [f"--requirements={lock}" for lock in locks]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "+ torch==" in done.stderr
    assert "+ nvidia-cudnn" in done.stderr
