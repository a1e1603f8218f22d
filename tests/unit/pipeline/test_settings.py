"""The settings files: an error names file, key, value and rule, with status 2 and no traceback."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from contract.paths import ROOT
from pipeline.settings import Params, SettingsError, load_params, load_project
from steps.preprocess.sources import SOURCES, Mnist, Sample
from steps.preprocess.sources.labelled import WithLabelled
from tests.support.examples import PARAMS
from tests.support.settings import PARAMS_FILE, PROJECT_FILE


def test_the_files_of_this_repository_load() -> None:
    assert load_params(ROOT / "params.yaml").gate
    assert load_project(ROOT / "project.yaml").name


def wrong(tmp_path: Path, key: str, value: Any) -> str:
    """The error message if `key`, a dotted path, has this value."""
    params: dict[str, Any] = yaml.safe_load(PARAMS_FILE.read_text())
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
        ("train.epochs", None, "train.epochs: is None; input should be a valid integer, or auto"),
        ("train.epochs", 2.5, "train.epochs: is 2.5; input should be a valid integer"),
        ("train.epochs", 22.0, "train.epochs: is 22.0; input should be a valid integer"),
        ("train.epochs", True, "train.epochs: is True; input should be a valid integer"),
        ("train.epochs", 0, "train.epochs: is 0; input should be greater than or equal to 1"),
        ("train", None, "train: is None; it must hold keys with values"),
        ("gate.baseline", 1.2, "gate.baseline: is 1.2; input should be less than or equal to 1"),
        ("gate.baseline", float("nan"), "gate.baseline: is nan; input should be a finite number"),
        ("data.source", "imagenet", "data.source: is 'imagenet'; input should be 'folder', 'mnist' or 'sample'"),
        ("data.channels", 2, "data.channels: is 2; input should be 1 or 3"),
        ("data.test_fraction", 0.95, "data: validation_fraction and test_fraction together must be less than 1"),
        ("data.image_size", 7, "data.image_size: is 7; input should be greater than or equal to 8, or auto"),
        ("data.channels", "Auto", "data.channels: is 'Auto'; input should be 1 or 3, or auto"),
        ("train.flip", "yes", "train.flip: is 'yes'; input should be a valid boolean, or auto"),
        ("deploy.keep", 0, "deploy.keep: is 0; input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, key: str, value: Any, message: str) -> None:
    assert message in wrong(tmp_path, key, value)


def test_widths_fit_a_size_that_is_a_number(tmp_path: Path) -> None:
    params: dict[str, Any] = yaml.safe_load(PARAMS_FILE.read_text())
    params["train"]["widths"], params["data"]["image_size"] = [8] * 6, 28
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    with pytest.raises(SettingsError, match="the file: train.widths has more entries than data.image_size can"):
        load_params(path)


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
def test_a_file_that_is_not_a_settings_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match="project.yaml: "):
        load_project(path)


@pytest.mark.parametrize("name", ["", "Digits", "a b", "-a", "a-", "a--b", "ä", "../x", "a_b", "1a", "a" * 41, "a.b"])
def test_a_name_that_cannot_be_an_image_name_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "project.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(PROJECT_FILE.read_text()), "name": name}))
    with pytest.raises(SettingsError, match="name: is "):
        load_project(path)


def test_the_command_line_says_it_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS_FILE.read_text().replace("epochs: ", "epochs: minus "))
    command = [sys.executable, "-m", "pipeline", "run", "--params", path, "--volumes", tmp_path / "volumes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}: train.epochs: is 'minus ")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "volumes").exists()


def described(*path: str) -> dict[str, FieldInfo]:
    """The fields of a section of `params.yaml`, or of one within it, in the class that its step reads."""
    kind: Any = Params
    for key in path:
        kind = next(each.annotation for name, each in kind.model_fields.items() if key in (name, each.alias))
    fields: dict[str, FieldInfo] = kind.model_fields
    return fields


def keys(values: dict[str, Any], *path: str) -> Iterator[tuple[str, ...]]:
    """The path of each key, without those of whole sections."""
    for key, value in values.items():
        if path:
            yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, *path, key)


def test_every_comment_of_params_begins_with_the_description_of_its_field() -> None:
    commented = re.findall(r"^ +(\w+):.*?  # (.+)$", PARAMS_FILE.read_text(), re.MULTILINE)
    paths = list(keys(PARAMS))
    assert [path[-1] for path in paths] == [key for key, _ in commented]
    for (*sections, key), (_, comment) in zip(paths, commented, strict=True):
        description = described(*sections)[key].description
        assert description, key
        assert comment.startswith(description), key


def test_what_is_named_as_a_source_is_one() -> None:
    [comment] = re.findall(r"^  source: .*  # (.+)$", PARAMS_FILE.read_text(), re.MULTILINE)
    named = re.findall(r"(\w+) \(", comment)
    assert named
    assert set(named) <= set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_sources_parameters_are_its_own_and_need_not_be_set(name: str) -> None:
    for field, info in SOURCES[name].model_fields.items():
        assert field.startswith(f"{name}_")
        assert not info.is_required()
        assert described("data")[field].description == info.description


def test_a_parameter_with_a_default_need_not_be_set(tmp_path: Path) -> None:
    sections = {**PARAMS, "deploy": {k: v for k, v in PARAMS["deploy"].items() if k != "max_pixels"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(sections))
    assert load_params(tmp_path / "params.yaml").deploy.max_pixels == 20_000_000


def test_a_parameter_without_effect_is_not_part_of_an_id() -> None:
    params = load_params(PARAMS_FILE)
    left_out = {
        f"{section}.{name}"
        for section, values in params
        for name in set(type(values).model_fields) - set(values.deciding())
    }
    assert left_out == {
        *("data.source", "data.mnist_url", "data.max_unreadable", "train.in_memory_mb", "embed.batch_size"),
        *("train.backbone_url", "train.backbone_sha256"),
        "data.labelled",
        "deploy.without_locks",
        "deploy.keep",
        "serving.shadow",
        "serving.collect",
    }


def test_the_source_is_read_with_its_parameters() -> None:
    data = load_params(PARAMS_FILE).data
    source = data.chosen_source()
    assert isinstance(source, WithLabelled)
    assert source.source == Sample()
    chosen = data.model_copy(update={"source": "mnist", "mnist_url": "http://mirror/"}).chosen_source()
    assert isinstance(chosen, WithLabelled)
    assert chosen.source == Mnist(mnist_url="http://mirror/")
    assert data.model_copy(update={"labelled": False}).chosen_source() == Sample()
    assert (chosen.needs_network, data.chosen_source().needs_network) == (True, False)
