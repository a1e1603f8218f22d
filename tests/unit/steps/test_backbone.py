"""Networks on a backbone of timm: what they make of images, how they are fine-tuned, and what they are saved as.

Fast tests take one of the networks that timm has for tests; slow ones the real EfficientNet-Lite0.
"""

import json
import os
import pickle
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from contract.paths import ROOT
from steps.common.errors import StepError
from steps.common.images.dataset import read_split
from steps.common.lineage import lineage
from steps.common.models import backbone
from steps.common.models.backbone import Backbone, load_pretrained, side_for
from steps.common.models.embedding import embed_images, load_network
from steps.common.models.features_index import build
from steps.common.store import find
from steps.deploy.export import export_network
from steps.preprocess.preprocess import prepare
from steps.train import fit, machine
from steps.train.auto import Chosen
from steps.train.machine import has_bfloat16, trains_in_bfloat16
from steps.train.parameters import Train
from steps.train.train import train
from tests.support import lite0
from tests.support.examples import PARAMS, write_images
from tests.support.killed_training import train_and_kill

TINY = "test_resnet.r160_in1k"
DATA: dict[str, Any] = {
    **PARAMS["data"],
    "source": "folder",
    "image_size": 16,
    "channels": 3,
    "validation_fraction": 0.3,
}
QUICK = {**PARAMS["train"], "backbone": TINY, "backbone_url": "tiny.safetensors", "epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny network with its classifier, as timm publishes them."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(backbone.timm.create_model(TINY, pretrained=False).state_dict(), path)
    return path


@pytest.fixture
def prepared(volumes: Path, tiny: Path) -> tuple[dict[str, str], str]:
    """The splits of two dozen digits, and the id of the tiny network's weights."""
    write_images(volumes / "data/images/train", {"three": "3", "seven": "7"}, count=16)
    (volumes / "data/tiny.safetensors").write_bytes(tiny.read_bytes())
    ids, weights = prepare(DATA, QUICK)
    return ids, weights.id


def trained(prepared: tuple[dict[str, str], str], **change: Any) -> str:
    ids, weights = prepared
    return train(ids["train"], ids["validation"], {**QUICK, **change}, weights)


def body(volumes: Path, network: str) -> dict[str, torch.Tensor]:
    found = load_file(volumes / "model/network" / network / "weights.safetensors")
    return {name.removeprefix("body."): tensor for name, tensor in found.items() if name.startswith("body.")}


def losses(volumes: Path, network: str) -> list[float]:
    history = json.loads((volumes / "model/network" / network / "history.json").read_text())
    return [epoch["loss"] for epoch in history]


@pytest.mark.parametrize("channels", [1, 3])
def test_it_normalises_enlarges_and_takes_grey_for_colour(channels: int) -> None:
    network = Backbone(channels, TINY, side=32, embedding_size=5).eval()
    published = backbone.published_config(TINY)
    seen = list[torch.Tensor]()
    network.body.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    images = torch.randint(256, (2, 16, 16, channels), dtype=torch.uint8)
    with torch.inference_mode():
        embeddings, features = network(images), network.features(images)
        network.features(torch.full((1, 16, 16, channels), 200, dtype=torch.uint8))
        again = torch.nn.functional.normalize(network.embed(features))
    assert seen[0].shape == (2, 3, 32, 32)
    wanted = (torch.tensor([200 / 255] * 3) - torch.tensor(published["mean"])) / torch.tensor(published["std"])
    assert torch.allclose(seen[-1].mean((0, 2, 3)), wanted, atol=1e-5)
    assert embeddings.shape == (2, 5)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(again, embeddings, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "image_size", "side"),
    [
        ("tf_efficientnet_lite0.in1k", 32, 128),
        ("tf_efficientnet_lite0.in1k", 128, 128),
        ("tf_efficientnet_lite0.in1k", 300, 300),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 32, 224),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 300, 224),
    ],
)
def test_small_images_are_enlarged_and_a_fixed_size_is_kept(name: str, image_size: int, side: int) -> None:
    assert side_for(name, image_size) == side


def test_it_starts_from_its_weights_and_stays_so_while_it_is_frozen(
    volumes: Path, prepared: tuple[dict[str, str], str], tiny: Path
) -> None:
    given = load_file(tiny)
    frozen = body(volumes, trained(prepared, backbone_frozen=1.0))
    for name, tensor in frozen.items():  # the running statistics of its normalisation included
        assert torch.equal(tensor, given[name]), name
    assert not any(name.startswith("fc.") for name in frozen)
    moved = body(volumes, trained(prepared, backbone_frozen=0.0))
    assert not torch.equal(moved["conv1.0.weight"], given["conv1.0.weight"])
    statistics = [name for name in moved if "running" in name]
    assert statistics
    assert all(torch.equal(moved[name], given[name]) for name in statistics)
    slow = body(volumes, trained(prepared, backbone_frozen=0.0, backbone_rate=1e-4))

    def distance(weights: dict[str, torch.Tensor]) -> float:
        return float((weights["conv1.0.weight"] - given["conv1.0.weight"]).norm())

    assert distance(slow) < distance(moved) / 10


def test_its_weights_are_an_input_that_the_lineage_names(volumes: Path, prepared: tuple[dict[str, str], str]) -> None:
    network = trained(prepared)
    made = find(volumes / "model", "network", network)
    assert made
    assert made.manifest["inputs"]["weights"] == prepared[1]
    assert made.manifest["parameters"]["backbone"] == TINY
    assert "widths" not in made.manifest["parameters"]
    assert made.manifest["facts"]["precision"] == "bfloat16" if has_bfloat16(torch.device("cpu")) else "float32"
    assert lineage([network])[prepared[1]]["kind"] == "weights"
    config = json.loads((made.path / "network.json").read_text())
    assert config == {"channels": 3, "backbone": TINY, "side": 128, "embedding_size": QUICK["embedding_size"]}


def test_what_it_does_not_have_is_no_part_of_its_id(volumes: Path, prepared: tuple[dict[str, str], str]) -> None:
    assert trained(prepared, widths=[3]) == trained(prepared)
    ids, _ = prepared
    small = {**QUICK, "backbone": "small", "widths": [4, 4]}
    assert train(ids["train"], ids["validation"], small) == train(
        ids["train"], ids["validation"], {**small, "backbone_rate": 0.5, "backbone_frozen": 0.5}
    )


def test_weights_of_another_network_are_refused(prepared: tuple[dict[str, str], str]) -> None:
    with pytest.raises(StepError, match=r"does not hold the weights of timm's test_vit.r160_in1k"):
        trained(prepared, backbone="test_vit.r160_in1k")


def test_a_name_that_timm_does_not_have_is_refused_with_like_ones(prepared: tuple[dict[str, str], str]) -> None:
    with pytest.raises(StepError, match=r"train.backbone: timm has no network 'resnet1.a1_in1k'; it has .*resnet"):
        trained(prepared, backbone="resnet1.a1_in1k")


@pytest.mark.parametrize(
    "change",
    [{"backbone": "local-dir:/tmp"}, {"backbone": "hf-hub:a/b"}, {"backbone": 3}, {"side": 10**9}, {"more": 1}],
)
def test_a_planted_configuration_builds_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    config = {"channels": 3, "backbone": TINY, "side": 32, "embedding_size": 4, **change}
    (tmp_path / "network.json").write_text(json.dumps(config))
    save_file({}, tmp_path / "weights.safetensors")
    with pytest.raises(StepError, match="holds no network"):
        load_network(tmp_path)


@pytest.mark.slow
def test_it_is_exported_to_onnx_and_embeds_alike(volumes: Path, prepared: tuple[dict[str, str], str]) -> None:
    folder = volumes / "model/network" / trained(prepared)
    images = read_split(prepared[0]["test"]).images[:5]
    here = embed_images(load_network(folder), images, 5)
    known = build(here.features)
    export_network(folder, known, volumes / "network.onnx", image_size=16, channels=3)
    embeddings, distances = onnxruntime.InferenceSession(volumes / "network.onnx").run(None, {"images": images})
    assert np.abs(embeddings - here.embeddings).max() < 1e-4
    assert np.abs(distances - known.distances(here.features)).max() < 1e-3


def test_bfloat16_is_for_networks_that_gain_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_bfloat16", lambda _: True)
    plain, depthwise = torch.nn.Conv2d(8, 8, 3), torch.nn.Conv2d(8, 8, 3, groups=8)
    assert trains_in_bfloat16(plain, torch.device("cpu"))
    assert not trains_in_bfloat16(depthwise, torch.device("cpu"))


@pytest.mark.slow
def test_small_imports_neither_timm_nor_torchvision() -> None:
    script = "import sys, steps.train.fit, steps.common.models.embedding, steps.deploy.export; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"timm", "torchvision"} & set(done.stdout.split())


def test_torchvision_is_the_one_of_this_torch() -> None:
    [wanted] = [line for line in metadata.requires("torchvision") or [] if line.startswith("torch")]
    locked = re.findall(r"^torch==([\d.]+)", (ROOT / "steps/torch.txt").read_text(), re.MULTILINE)
    assert {f"torch (=={version})" for version in locked} == {wanted}


@pytest.mark.slow
def test_real_weights_under_timms_names_give_the_outputs_of_their_own_network() -> None:
    network = backbone.timm.create_model(lite0.NAME, pretrained=False)
    network.load_state_dict(lite0.mapped())
    pixels = torch.randn(4, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        ours, theirs = network.eval()(pixels), lite0.theirs()(pixels)
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert theirs.abs().max() > 1


@pytest.mark.slow
def test_real_weights_tell_few_images_apart_better_than_drawn_ones(volumes: Path, tmp_path: Path) -> None:
    network = Backbone(1, lite0.NAME, 96, 16).eval()
    write_images(tmp_path, {"three": "3", "five": "5", "eight": "8"}, count=20)
    write_images(volumes / "data/images/train", {"three": "3", "five": "5", "eight": "8"}, count=40)
    ids, _ = prepare({**DATA, "image_size": 32, "channels": 1}, {**QUICK, "backbone": "small"})
    split = read_split(ids["train"])

    def right() -> float:
        with torch.inference_mode():
            features = torch.nn.functional.normalize(network.features(torch.from_numpy(split.images[:])))
        near = (features @ features.T).fill_diagonal_(-1).argmax(1).numpy()
        return float((split.labels[near] == split.labels).mean())

    drawn = right()
    load_pretrained(network, lite0.write(tmp_path / "lite0.safetensors"))
    assert right() > drawn


@pytest.mark.slow
@pytest.mark.parametrize("epochs_frozen", [0.34, 0.67])
def test_a_killed_fine_tuning_ends_like_an_uninterrupted_one(
    volumes: Path, prepared: tuple[dict[str, str], str], epochs_frozen: float, capsys: pytest.CaptureFixture[str]
) -> None:
    (ids, id), change = prepared, {"epochs": 3, "backbone_frozen": epochs_frozen}
    train_and_kill(ids["train"], ids["validation"], {**QUICK, **change}, id)
    network = trained(prepared, **change)
    assert '"event": "resumed", "epoch": 1' in capsys.readouterr().out
    others = volumes.parent / "uninterrupted"
    os.environ["VOLUMES"] = str(others)
    others.mkdir()
    (others / "data").symlink_to(volumes / "data")
    assert trained(prepared, **change) == network
    uninterrupted, resumed = body(others, network), body(volumes, network)
    for name, tensor in uninterrupted.items():
        assert torch.allclose(tensor.float(), resumed[name].float(), atol=1e-2), name
    # The same features are dropped, too.
    assert losses(volumes, network) == pytest.approx(losses(others, network), rel=2e-3)


@pytest.mark.slow
def test_two_processes_fine_tune_one_network(
    volumes: Path, prepared: tuple[dict[str, str], str], tiny: Path, tmp_path: Path
) -> None:
    ids, _ = prepared
    folder, data = tmp_path / "network", volumes / "data/dataset"
    folder.mkdir()
    parameters = Train(**{**QUICK, "epochs": 2, "backbone_frozen": 0.5})  # so that it thaws between the epochs
    splits = data / ids["train"], data / ids["validation"]
    chosen = Chosen(epochs=2, batch_size=8, widths=[8], scale=16.0, margin=0.5, class_power=1.0, flip=False)
    job = fit.Job(parameters, chosen, *splits, folder, tmp_path / "checkpoint.pt", tiny)
    script = (
        "import pickle, sys\nfrom steps.train import fit\n"
        "if __name__ == '__main__':\n    fit.launch(pickle.loads(bytes.fromhex(sys.argv[1])), processes=2)\n"
    )
    (tmp_path / "two.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, tmp_path / "two.py", pickle.dumps(job).hex()], env=environment, check=True)
    assert len(json.loads((folder / "history.json").read_text())) == 2
    moved = load_file(folder / "weights.safetensors")["body.conv1.0.weight"]
    assert not torch.equal(moved, load_file(tiny)["conv1.0.weight"])
    load_network(folder)
