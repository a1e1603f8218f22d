"""Pretrained weights: when they are wanted, where they come from, what is refused and what is said without them."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from contract.events import Progress, Warned, parse
from steps.common.errors import StepError
from steps.common.lineage import lineage
from steps.common.parameters import DEFAULT_BACKBONE, SMALL, Pretrained
from steps.common.store import find
from steps.preprocess.preprocess import prepare
from steps.preprocess.sources import download
from steps.preprocess.sources.folder import Folder
from steps.train.parameters import Train
from tests.support.examples import PARAMS, write_images
from tests.support.file_server import Served, serve

FILE = save({"layer": np.arange(50_000, dtype=np.float32)})
SHA256 = hashlib.sha256(FILE).hexdigest()
COLOUR: dict[str, Any] = {**PARAMS["data"], "source": "folder", "image_size": 32, "channels": 3}
NAMED = {**PARAMS["train"], "backbone": "resnet18.a1_in1k"}
NOWHERE = "http://127.0.0.1:9/{backbone}"


@pytest.fixture(autouse=True)
def _images(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(volumes / "data/images/train", {"three": "3", "seven": "7"}, count=8)
    monkeypatch.setattr(download, "PAUSES", ())


@pytest.fixture
def served() -> Iterator[Served]:
    with serve(Served(FILE)) as found:
        yield found


def settings(name: str, url: str, **more: str) -> dict[str, Any]:
    return {**PARAMS["train"], "backbone": name, "backbone_url": url, **more}


@pytest.mark.parametrize(
    ("backbone", "source", "size", "channels", "wanted"),
    [
        ("auto", "sample", 28, 1, False),
        ("auto", "mnist", 64, 3, False),
        ("auto", "folder", 32, 1, False),
        ("auto", "folder", 33, 1, True),
        ("auto", "folder", 32, 3, True),
        ("small", "folder", 224, 3, False),
        ("resnet18.a1_in1k", "sample", 28, 1, True),
    ],
)
def test_auto_wants_a_backbone_for_colour_and_for_larger_images(
    backbone: str, source: str, size: int, channels: int, wanted: bool
) -> None:
    assert Pretrained(backbone=backbone).wants_backbone(source, size, channels) is wanted


def test_a_named_backbone_without_its_weights_is_refused_before_the_source_is_read(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "read", lambda _: pytest.fail("the source was read"))
    with pytest.raises(StepError) as refused:
        prepare(COLOUR, settings("resnet18.a1_in1k", NOWHERE))
    message = str(refused.value)
    assert "http://127.0.0.1:9/resnet18.a1_in1k could not be fetched" in message
    assert f"put the file into {volumes}/data/downloads/resnet18.a1_in1k.safetensors" in message
    with pytest.raises(StepError, match=f"there is no file {volumes}/data/own.safetensors.*train.backbone to small"):
        prepare(COLOUR, settings("resnet18.a1_in1k", "own.safetensors"))


def test_auto_without_weights_trains_small_and_says_so(volumes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, weights = prepare(COLOUR, settings("auto", NOWHERE))
    assert weights.id == ""
    assert weights.lacking.startswith(f"{DEFAULT_BACKBONE}: its pretrained weights could not be had, so small was")
    assert f"Put them into {volumes}/data/downloads/{DEFAULT_BACKBONE}.safetensors" in weights.lacking
    said = [one.message for line in capsys.readouterr().out.splitlines() if isinstance(one := parse(line), Warned)]
    assert any(weights.lacking in line for line in said)
    assert Train(**PARAMS["train"]).resolved(weights.id).backbone == SMALL


def test_small_fetches_nothing_and_lacks_nothing(volumes: Path) -> None:
    for data, training in (
        (COLOUR, settings("small", NOWHERE)),
        ({**COLOUR, "channels": 1}, settings("auto", NOWHERE)),
    ):
        _, weights = prepare(data, training)
        assert (weights.id, weights.lacking) == ("", "")


def test_weights_are_fetched_resumed_and_fetched_once(
    volumes: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.names, served.breaks = SHA256, True
    training = settings("auto", served.url + "/{backbone}/model")
    _, first = prepare(COLOUR, training)
    assert first.lacking, "the transfer broke off"
    _, weights = prepare(COLOUR, training)
    half = len(FILE) // 2
    assert served.asked[-1] == f"bytes={half - half % (1 << 16)}-"
    kept = find(volumes / "data", "weights", weights.id)
    assert kept
    assert (kept.path / "weights.safetensors").read_bytes() == FILE
    assert kept.facts["sha256"] == SHA256
    assert kept.facts["backbone"] == DEFAULT_BACKBONE
    count = len(served.asked)
    assert prepare(COLOUR, training)[1] == weights
    assert len(served.asked) == count
    events = [parse(line) for line in capsys.readouterr().out.splitlines()]
    assert f"fetch {DEFAULT_BACKBONE}.safetensors" in [one.doing for one in events if isinstance(one, Progress)]
    assert lineage([weights.id])[weights.id]["kind"] == "weights"


def test_the_same_weights_from_elsewhere_have_the_same_id(volumes: Path, served: Served, tmp_path: Path) -> None:
    _, fetched = prepare(COLOUR, settings("auto", served.url))
    own = tmp_path / "with space.safetensors"
    own.write_bytes(FILE)
    (volumes / "data/own.safetensors").write_bytes(FILE)
    for url in (own.as_uri(), "own.safetensors"):
        assert prepare(COLOUR, settings("auto", url))[1] == fetched
    own.write_bytes(save({"layer": np.zeros(3, np.float32)}))
    assert prepare(COLOUR, settings("auto", own.as_uri()))[1] != fetched


@pytest.mark.parametrize("backbone", ["auto", "resnet18.a1_in1k"])
def test_weights_with_another_checksum_are_refused(volumes: Path, served: Served, backbone: str) -> None:
    served.names = "0" * 64
    with pytest.raises(StepError, match=f"its SHA-256 is {SHA256}, and the server names {'0' * 64}"):
        prepare(COLOUR, settings(backbone, served.url))
    served.names = ""
    with pytest.raises(StepError, match="could not be fetched.*does not match the known hash"):
        prepare(COLOUR, settings(backbone, served.url, backbone_sha256="1" * 64))
    (volumes / "data/own.safetensors").write_bytes(FILE)
    with pytest.raises(StepError, match=f"has the SHA-256 {SHA256}, and train.backbone_sha256 is {'1' * 64}"):
        prepare(COLOUR, settings(backbone, "own.safetensors", backbone_sha256="1" * 64))
    assert prepare(COLOUR, settings(backbone, served.url, backbone_sha256=SHA256))[1].id


@pytest.mark.parametrize(
    "data",
    [
        b"<html>Sign in</html>",
        b"",
        FILE[:-1],
        FILE + b"x",
        (2**63).to_bytes(8, "little") + b"{}",
        b"\3" + bytes(7) + b"[1]",
    ],
    ids=["a page", "empty", "short", "long", "a long head", "a list"],
)
def test_what_is_no_safetensors_is_refused(volumes: Path, data: bytes) -> None:
    (volumes / "data/own.safetensors").write_bytes(data)
    with pytest.raises(StepError, match=r"own.safetensors holds no weights in the format safetensors"):
        prepare(COLOUR, settings("auto", "own.safetensors"))


@pytest.mark.parametrize(("key", "value"), [("backbone", "a/b"), ("backbone_url", "ftp://x"), ("backbone_sha256", "x")])
def test_a_wrong_setting_is_refused_by_name(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=key):
        Train(**{**PARAMS["train"], key: value})


def test_the_file_takes_no_room_twice(volumes: Path, served: Served) -> None:
    _, weights = prepare(COLOUR, settings("auto", served.url))
    one = volumes / f"data/downloads/{DEFAULT_BACKBONE}.safetensors"
    other = volumes / f"data/weights/{weights.id}/weights.safetensors"
    assert os.path.samefile(one, other)
    manifest = json.loads((other.parent / "manifest.json").read_text())
    assert manifest["inputs"] == {"file": SHA256}
