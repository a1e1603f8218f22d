"""The settings files: wrong ones get file, key, value and rule, status 2 and no traceback."""

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.paths import ROOT
from pipeline.settings import SettingsError, load_params, load_project
from steps import analyse, deploy, embed, index, preprocess, train, validate
from tests.support.examples import PARAMS


def test_the_files_of_this_repository_load() -> None:
    assert load_params(ROOT / "params.yaml").gate.baseline == 0.8
    assert load_project(ROOT / "project.yaml").name


def wrong(tmp_path: Path, key: str, value: Any) -> str:
    """What is said where `key`, a dotted path, has this value."""
    params: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text())
    *sections, last = key.split(".")
    section = params
    for name in sections:
        section = section[name]
    section[last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(SettingsError) as error:
        load_params(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epochz", 3, "train.epochz: there is no such key"),
        ("trian", {}, "trian: there is no such key"),
        ("train.epochs", "ten", "train.epochs: is 'ten'; input should be a valid integer"),
        ("train.epochs", 2.5, "train.epochs: is 2.5; input should be a valid integer"),
        ("train.epochs", True, "train.epochs: is True; input should be a valid integer"),
        ("train.epochs", 0, "train.epochs: is 0; input should be greater than or equal to 1"),
        ("train", None, "train: is None; it must hold keys with values"),
        ("gate.baseline", 1.2, "gate.baseline: is 1.2; input should be less than or equal to 1"),
        ("gate.baseline", float("nan"), "gate.baseline: is nan; input should be a finite number"),
        ("data.source", "imagenet", "data.source: is 'imagenet'; input should be 'sample', 'mnist' or 'folder'"),
        ("data.channels", 2, "data.channels: is 2; input should be 1 or 3"),
        ("data.test_fraction", 0.95, "data: validation_fraction and test_fraction together must be less than 1"),
        ("train.widths", [8] * 6, "the file: train.widths has more entries than data.image_size can be halved"),
        ("deploy.keep", 0, "deploy.keep: is 0; input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    assert message in wrong(tmp_path, key, value)


def test_every_wrong_value_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("data: 3\nnonsense: 1\n")
    with pytest.raises(SettingsError) as error:
        load_params(path)
    lines = str(error.value).splitlines()
    assert f"{path}: train: is missing; give it a value" in lines
    assert f"{path}: nonsense: there is no such key; remove it or mend its spelling" in lines
    assert any("data: is 3" in line for line in lines)


@pytest.mark.parametrize("text", ["", "[1, 2]", "train: [", "\x00", "a: b: c", "name: 2020-99-99", "name: 0x_"])
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="project.yaml: "):
        load_project(path)


@pytest.mark.parametrize("name", ["", "Digits", "a b", "-a", "a-", "a--b", "ä", "../x", "a_b", "1a", "a" * 41, "a.b"])
def test_a_name_that_is_no_image_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((ROOT / "project.yaml").read_text()), "name": name}))
    with pytest.raises(SettingsError, match="name: is "):
        load_project(path)


def test_the_command_line_says_it_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text().replace("epochs: ", "epochs: minus "))
    command = [sys.executable, "-m", "pipeline", "run", "--params", path, "--volumes", tmp_path / "volumes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: train.epochs: is 'minus ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "volumes").exists()


@pytest.mark.parametrize(
    ("step", "sections", "given"),
    [
        (preprocess.preprocess, ["data"], set()),
        (validate.validate, ["validate"], {"image_size", "channels"}),
        (train.train, ["train"], set()),
        (embed.embed, ["embed"], set()),
        (index.index, ["index"], set()),
        (analyse.analyse, ["analyse", "gate", "embed"], set()),
        (deploy.deploy, ["deploy"], {"name", "image_size", "channels"}),
    ],
)
def test_every_parameter_is_one_of_its_step(step: Any, sections: list[str], given: set[str]) -> None:
    parameters = inspect.signature(step.__wrapped__).parameters.values()
    names = {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}
    assert names == {key for section in sections for key in PARAMS[section]} | given
    assert all(parameter.default is parameter.empty for parameter in parameters)
