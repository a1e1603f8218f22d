"""Images have names with a tag; the Dockerfiles agree with it; without Docker, the error says how to install it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.images.docker import USER
from pipeline.images.tag import NAMES, tag
from pipeline.settings import SettingsError, load_project
from steps.registry import STEP_NAMES
from tests.support.settings import PROJECT_FILE

WITH_TORCH = {"train", "embed", "analyse", "deploy", "serving"}
PROJECT = yaml.safe_load(PROJECT_FILE.read_text())
DOCKERFILES = [ROOT / "steps/Dockerfile", ROOT / "serving/Dockerfile"]


@pytest.fixture(autouse=True)
def _no_build_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("TORCH", "BASE_IMAGE"):
        monkeypatch.delenv(key, raising=False)


def test_a_reference_ends_with_the_tag() -> None:
    project = load_project(PROJECT_FILE)
    names = references(project)
    assert set(names) == {*STEP_NAMES, "serving"}
    for name, image in names.items():
        assert image == f"{project.registry}/{project.name}-{name}:{tag(name)}"


def test_build_arguments_change_the_tags_of_the_images_that_use_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: tag(name) for name in NAMES}
    for same in ("cpu", "auto", ""):
        monkeypatch.setenv("TORCH", same)
        assert {name: tag(name) for name in NAMES} == before
    monkeypatch.setenv("TORCH", "cuda")
    assert {name for name in NAMES if tag(name) != before[name]} == WITH_TORCH
    monkeypatch.setenv("BASE_IMAGE", "example.org/python:3.11")
    assert not {tag(name) for name in NAMES} & set(before.values())


def test_an_unknown_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH", "rocm")
    with pytest.raises(SettingsError, match="TORCH: is 'rocm'; it must be auto, cpu or cuda"):
        tag("train")


def test_no_image_is_tagged_latest() -> None:
    files = [*DOCKERFILES, ROOT / "Makefile", *(ROOT / "pipeline").glob("*.py")]
    assert [file for file in files if "latest" in file.read_text()] == []


def stages(file: Path) -> dict[str, list[str]]:
    """The lines of each build stage without comments; lines before the first stage have the name ''."""
    found: dict[str, list[str]] = {"": []}
    for line in file.read_text().splitlines():
        if line.startswith("FROM "):
            found[line.rpartition(" AS ")[2]] = []
        if line and not line.startswith("#"):
            found[list(found)[-1]].append(line)
    return found


def test_both_dockerfiles_have_the_same_base_and_torch_layers() -> None:
    steps, serving = map(stages, DOCKERFILES)
    assert steps[""][0] == serving[""][0]  # the base image
    assert (steps["base"], steps["torch"]) == (serving["base"], serving["torch"])


def test_every_image_runs_as_the_fixed_user() -> None:
    found = {name: lines for file in DOCKERFILES for name, lines in stages(file).items()}
    for name in NAMES:
        assert [line for line in found[name] if line.startswith("USER ")][-1] == f"USER {USER}"
    assert f"RUN useradd --uid {USER.partition(':')[0]} " in "\n".join(found["base"])


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def pins(lock: str) -> set[str]:
    return {line.removesuffix(" \\") for line in (ROOT / lock).read_text().splitlines() if re.match(r"[a-z]", line)}


def test_every_package_of_a_shared_layer_is_in_the_locks_of_its_images() -> None:
    common, torch = pins("steps/common/requirements.txt"), pins("steps/torch-dependencies.txt")
    for step in STEP_NAMES:
        assert common <= pins(f"steps/{step}/requirements.txt"), step
    for name in WITH_TORCH:
        folder = name if name == "serving" else f"steps/{name}"
        assert torch <= pins(f"{folder}/requirements.txt"), name
    assert pins("steps/common/kfp.txt") < pins("requirements.txt")


def test_the_cuda_build_has_the_same_version_of_torch() -> None:
    (cpu,) = {pin.split()[0].partition("+")[0] for pin in pins("steps/torch.txt")}
    cuda = pins("steps/torch-cuda.txt")
    assert cpu in cuda
    assert any(pin.startswith("nvidia-cudnn") for pin in cuda)
    names = {pin.partition("==")[0] for pin in pins("steps/torch-dependencies.txt")}
    assert {pin for pin in cuda if pin.partition("==")[0] in names} <= pins("steps/torch-dependencies.txt")


@pytest.mark.parametrize("command", [["images"], ["images", "train"], ["run", "--runner", "docker"]])
@pytest.mark.parametrize("missing", ["command", "engine"])
def test_without_docker_the_error_says_how_to_install_it(tmp_path: Path, command: list[str], missing: str) -> None:
    environment = {**os.environ, "VOLUMES": str(tmp_path / "volumes"), "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    if missing == "command":
        environment["PATH"] = str(tmp_path)
    else:
        (tmp_path / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
        (tmp_path / "docker").chmod(0o755)
        environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    words = [sys.executable, "-m", "pipeline", *command]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Docker is needed, and ")
    assert "https://docs.docker.com/engine/install/" in done.stderr
    assert not (tmp_path / "volumes").exists()


@pytest.mark.parametrize(
    "registry", ["docker", "ghcr.io/", "https://ghcr.io", "ghcr.io/UPPER", "localhost:5000/a b", ""]
)
def test_an_invalid_registry_is_refused(tmp_path: Path, registry: str) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(yaml.safe_dump({**PROJECT, "registry": registry}))
    with pytest.raises(SettingsError, match="registry: is"):
        load_project(file)


@pytest.mark.parametrize(
    "registry", ["localhost:5000", "localhost", "ghcr.io/owner", "docker.io/me", "10.0.0.1:5000/a/b-c"]
)
def test_a_registry_may_have_a_port_and_folders(tmp_path: Path, registry: str) -> None:
    file = tmp_path / "project.yaml"
    file.write_text(yaml.safe_dump({**PROJECT, "registry": registry}))
    assert load_project(file).registry == registry
