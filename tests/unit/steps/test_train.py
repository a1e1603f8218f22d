"""Train: ArcFace against known angles, augmentation, the network's own normalisation, resuming, memory, processes."""

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from contract.events import Epoch, parse
from contract.paths import ROOT
from steps.common.errors import StepError
from steps.common.models.embedding import embed_images, load_network
from steps.preprocess.preprocess import preprocess
from steps.train import fit
from steps.train.arcface import ArcFace
from steps.train.augment import augment, draw_maps
from steps.train.auto import Chosen
from steps.train.machine import chosen_device, has_bfloat16
from steps.train.parameters import Train
from steps.train.train import train
from tests.support.examples import PARAMS
from tests.support.killed_training import train_and_kill

QUICK = {**PARAMS["train"], "epochs": 2, "batch_size": 128, "widths": [8, 8, 16], "flip": False}
CHOSEN = Chosen(epochs=2, batch_size=128, widths=[8, 8, 16], scale=30.0, margin=0.5, class_power=1.0, flip=False)
STILL: dict[str, Any] = {"rotation": 0.0, "translation": 0.0, "zoom": 0.0, "shear": 0.0, "flip": False}


def arcface(scale: float, margin: float, angles: list[float]) -> ArcFace:
    """A loss whose centres lie in the plane at these angles."""
    loss = ArcFace(len(angles), 2, scale, margin)
    with torch.no_grad():  # their lengths must not matter
        loss.centres.copy_(torch.tensor([[2 * math.cos(a), 2 * math.sin(a)] for a in angles]))
    return loss


@pytest.mark.parametrize("angle", [0.1, 0.7, 1.5, 2.5])
def test_arcface_widens_the_true_angle_by_the_margin(angle: float) -> None:
    loss = arcface(scale=10, margin=0.5, angles=[0.0, math.pi / 2])
    embedding = torch.tensor([[math.cos(angle), math.sin(angle)]])
    true, other = 10 * math.cos(angle + 0.5), 10 * math.cos(math.pi / 2 - angle)
    wanted = math.log(math.exp(true) + math.exp(other)) - true
    assert loss(embedding, torch.tensor([0])).item() == pytest.approx(wanted, abs=1e-4)


def test_arcface_without_margin_is_cross_entropy_of_cosines() -> None:
    loss = arcface(scale=3, margin=0, angles=[0.0, 1.0, 2.0])
    embeddings = torch.nn.functional.normalize(torch.randn(16, 2))
    labels = torch.randint(3, (16,))
    wanted = torch.nn.functional.cross_entropy(3 * loss.cosines(embeddings), labels)
    assert torch.allclose(loss(embeddings, labels), wanted, atol=1e-5)


def test_arcface_counts_in_float32_where_the_network_is_in_bfloat16() -> None:
    loss = arcface(scale=10, margin=0.5, angles=[0.0, 1.0, 2.0])
    embeddings, labels = torch.nn.functional.normalize(torch.randn(16, 2)), torch.randint(3, (16,))
    wanted = loss(embeddings, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(embeddings, labels), wanted)


def test_arcface_rises_with_the_angle_everywhere_and_its_gradient_is_finite() -> None:
    loss = arcface(scale=3, margin=0.5, angles=[0.0, math.pi])
    angles = torch.linspace(0, math.pi, 64)
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1).requires_grad_()
    losses = torch.stack([loss(e[None], torch.tensor([0])) for e in embeddings])
    assert (losses[1:] > losses[:-1]).all()
    losses.sum().backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()


def test_augmentation_with_limits_of_zero_changes_nothing() -> None:
    images = torch.randint(256, (5, 9, 9, 3), dtype=torch.uint8)
    assert torch.allclose(
        augment(images, draw_maps(len(images), torch.Generator(), **STILL)), images.float(), atol=1e-2
    )


def test_augmentation_moves_by_the_fraction_asked_for() -> None:
    images = torch.zeros(200, 21, 21, 1, dtype=torch.uint8)
    images[:, 10, 10] = 255
    moved = augment(images, draw_maps(len(images), torch.Generator().manual_seed(0), **{**STILL, "translation": 0.2}))
    where = moved[..., 0].flatten(1).argmax(1)
    shift = torch.stack([where // 21, where % 21]) - 10
    assert shift.abs().max() in (4, 5)  # 0.2 * 21 = 4.2 pixels
    assert shift.float().mean().abs() < 0.5


def test_augmentation_turns_by_degrees() -> None:
    images = torch.zeros(100, 31, 31, 1, dtype=torch.uint8)
    images[:, 15, 25] = 255  # ten pixels to the right of the centre
    turned = augment(images, draw_maps(len(images), torch.Generator().manual_seed(0), **{**STILL, "rotation": 30.0}))
    where = turned[..., 0].flatten(1).argmax(1)
    angles = torch.rad2deg(torch.atan2((where // 31 - 15).float(), (where % 31 - 15).float()))
    assert 22 < angles.abs().max() < 34
    assert turned.flatten(1).argmax(1).unique().numel() > 5


def test_the_network_normalises_by_itself(small_model: dict[str, Any]) -> None:
    folder = small_model["volumes"] / "model/network" / small_model["network"]
    network = load_network(folder)
    weights = load_file(folder / "weights.safetensors")
    with np.load(ROOT / "steps/preprocess/sample.npz") as sample:
        assert weights["mean"].item() == pytest.approx(sample["images"].mean(), rel=0.03)
        assert weights["std"].item() == pytest.approx(sample["images"].std(), rel=0.03)
        embeddings = embed_images(network, sample["images"][:7, :, :, None], batch_size=3).embeddings
    assert embeddings.shape == (7, 64)
    assert embeddings.dtype == np.float32
    assert np.linalg.norm(embeddings, axis=1) == pytest.approx(np.ones(7), abs=1e-5)


def test_a_saved_network_has_no_pickle(small_model: dict[str, Any]) -> None:
    folder = small_model["volumes"] / "model/network" / small_model["network"]
    assert {path.name for path in folder.iterdir()} == {
        "history.json",
        "manifest.json",
        "network.json",
        "weights.safetensors",
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parameters"]["seed"] == 0
    assert manifest["facts"]["seed"] == 0
    ran_on = {key: manifest["facts"][key] for key in ("device", "threads", "torch", "precision")}
    assert ran_on == {
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": "bfloat16" if has_bfloat16(chosen_device()) else "float32",
    }
    assert manifest["facts"]["processor"]


def test_the_network_takes_any_size_and_colour() -> None:
    from steps.common.models.network import Network

    network = Network(channels=3, widths=[4, 8], embedding_size=5).eval()
    for size in (8, 33, 64):
        assert network(torch.zeros(2, size, size, 3, dtype=torch.uint8)).shape == (2, 5)


@pytest.fixture
def splits(volumes: Path, few_digits: None) -> tuple[str, str]:
    ids = preprocess(PARAMS["data"])
    return ids["train"], ids["validation"]


def weights(volumes: Path, id: str) -> dict[str, torch.Tensor]:
    return load_file(volumes / "model/network" / id / "weights.safetensors")


def test_training_reports_each_epoch(
    volumes: Path, splits: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    id = train(*splits, QUICK)
    epochs = [event for line in capsys.readouterr().out.splitlines() if isinstance(event := parse(line), Epoch)]
    assert [(event.epoch, event.epochs) for event in epochs] == [(1, 2), (2, 2)]
    history = json.loads((volumes / "model/network" / id / "history.json").read_text())
    for told, kept in zip(epochs, history, strict=True):
        assert told.loss == kept["loss"]
        assert 0 <= told.validation_accuracy == kept["validation_accuracy"] <= 1


@pytest.mark.slow
def test_a_killed_training_resumes_and_ends_like_an_uninterrupted_one(
    volumes: Path, splits: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    train_and_kill(*splits, QUICK)
    checkpoints = volumes / "model/checkpoints"
    assert len(list(checkpoints.iterdir())) == 1
    resumed = weights(volumes, train(*splits, QUICK))
    assert '"event": "resumed", "epoch": 1' in capsys.readouterr().out
    assert list(checkpoints.iterdir()) == []

    os.environ["VOLUMES"] = str(volumes.parent / "uninterrupted")
    assert preprocess(PARAMS["data"])["train"] == splits[0]
    uninterrupted = weights(volumes.parent / "uninterrupted", train(*splits, QUICK))
    for name, tensor in uninterrupted.items():
        assert torch.allclose(tensor.float(), resumed[name].float(), atol=1e-3), name


def test_from_memory_and_from_disk_give_the_same_batches(volumes: Path, splits: tuple[str, str]) -> None:
    from steps.common.images.dataset import read_split

    images = read_split(splits[0]).images
    rows = torch.tensor([5, 3, 99, 0])
    batches = [rows, rows + 7, rows + 1, rows, rows + 3, rows + 2]
    held = list(fit._reader(images, torch.device("cpu"), images.nbytes)(batches))
    read = list(fit._reader(images, torch.device("cpu"), images.nbytes - 1)(batches))
    assert len(held) == len(read) == len(batches)
    for asked, (rows_held, one), (rows_read, other) in zip(batches, held, read, strict=True):
        assert (asked == rows_held).all()
        assert (asked == rows_read).all()
        assert (one == other).all()
        assert (other.numpy() == images[asked.numpy()]).all()


def test_memory_does_not_change_the_id(
    volumes: Path, splits: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first = train(*splits, {**QUICK, "in_memory_mb": 0})
    assert train(*splits, QUICK) == first
    assert '"unchanged": true' in capsys.readouterr().out


def test_a_diverging_training_says_what_to_do(volumes: Path, splits: tuple[str, str]) -> None:
    with pytest.raises(StepError, match=r"the loss is nan in epoch \d: lower train.learning_rate"):
        train(*splits, {**QUICK, "learning_rate": 1e38})
    assert not list((volumes / "model/network").glob("[!.]*"))


@pytest.mark.parametrize(("steps", "warmup"), [(4, 0.25), (2, 0.5), (10, 0.1), (1, 0.25), (616, 0.25)])
def test_the_schedule_works_for_any_number_of_steps(steps: int, warmup: float) -> None:
    parameters = Train(**{**QUICK, "warmup_fraction": warmup})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], parameters.learning_rate)
    schedule = fit._schedule(optimizer, parameters, steps)
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step() if len(rates) < steps else None
    assert max(rates) <= parameters.learning_rate * 1.001
    assert rates[-1] < parameters.learning_rate / 100


def test_training_starts_anew_from_a_damaged_checkpoint(
    volumes: Path, splits: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "_save_checkpoint", lambda path, *_: None)
    (volumes / "model/checkpoints").mkdir(parents=True)
    id = train(*splits, QUICK)
    shutil.rmtree(volumes / "model/network" / id)
    (volumes / f"model/checkpoints/{id}.pt").write_bytes(b"damaged")
    assert train(*splits, QUICK) == id
    assert "is damaged, so training starts anew" in capsys.readouterr().out


def test_too_small_a_batch_for_several_processes_is_refused(tmp_path: Path) -> None:
    chosen = replace(CHOSEN, batch_size=7)
    with pytest.raises(StepError, match="train.batch_size is 7: 4 processes need 8 or more"):
        fit.launch(fit.Job(Train(**QUICK), chosen, tmp_path, tmp_path, tmp_path, tmp_path), processes=4)


@pytest.mark.slow
def test_two_processes_train_one_network(volumes: Path, splits: tuple[str, str], tmp_path: Path) -> None:
    data = volumes / "data/dataset"
    job = fit.Job(Train(**QUICK), CHOSEN, data / splits[0], data / splits[1], tmp_path, tmp_path / "checkpoint.pt")
    script = (
        "import pickle, sys\nfrom steps.train import fit\n"
        "if __name__ == '__main__':\n    fit.launch(pickle.loads(bytes.fromhex(sys.argv[1])), processes=2)\n"
    )
    (tmp_path / "two.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, tmp_path / "two.py", pickle.dumps(job).hex()], env=environment, check=True)
    history = json.loads((tmp_path / "history.json").read_text())
    assert len(history) == 2
    assert 0 <= history[1]["validation_accuracy"] <= 1
    load_network(tmp_path)
