"""One training by several processes, from the TrainJob's own command: the same network, whatever their number."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contract.events import Epoch, parse
from contract.paths import ROOT
from pipeline.kubeflow.train_job import manifest
from pipeline.settings import load_project
from steps.common.models.embedding import load_network
from steps.preprocess.preprocess import preprocess
from steps.train.parameters import Train
from steps.train.train import train
from tests.support.examples import PARAMS
from tests.support.settings import PROJECT_FILE

QUICK = {**PARAMS["train"], "epochs": 3, "batch_size": 100, "widths": [8, 8, 16], "flip": False, "learning_rate": 0.002}
COMMAND = manifest(load_project(PROJECT_FILE), "image")["spec"]["trainer"]["command"]
CLEAN = ("RANK", "WORLD_SIZE", "TRAIN_JOB", "POD_NAME")
# On every processor in float32: bfloat16 alone makes the third loss differ by 0.03 between one and four threads.
FLOAT32 = "import torch\ntorch.cpu._is_avx512_bf16_supported = lambda: False\n"
TOLERANCE = 0.01

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "everywhere").mkdir()
    (tmp_path / "everywhere/sitecustomize.py").write_text(FLOAT32)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'everywhere'}:{ROOT}")
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)


@pytest.fixture
def splits(volumes: Path, few_digits: None) -> tuple[str, str]:
    ids = preprocess(PARAMS["data"])
    return ids["train"], ids["validation"]


def start(splits: tuple[str, str], parameters: dict[str, Any], **trainer: Any) -> subprocess.Popen[str]:
    """The command of a TrainJob's pod, with the variables that Trainer's plugin for torch gives it."""
    words = ["network", f"--train={splits[0]}", f"--validation={splits[1]}"]
    words.append(f"--parameters={Train(**parameters).model_dump_json()}")
    kept = {name: value for name, value in os.environ.items() if name not in CLEAN}
    more = {f"PET_{name.upper()}": str(value) for name, value in trainer.items()}
    environment = {**kept, **more, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *COMMAND[1:], *words],
        env=environment,
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def losses(volumes: Path, id: str) -> list[float]:
    history = json.loads((volumes / "model/network" / id / "history.json").read_text())
    return [epoch["loss"] for epoch in history]


def test_any_number_of_processes_trains_the_same_network(volumes: Path, splits: tuple[str, str]) -> None:
    id = train(*splits, {**QUICK, "backbone": "small"})
    alone = losses(volumes, id)
    for processes in (1, 2, 4):
        shutil.rmtree(volumes / "model/network" / id)
        # All on one node: torchrun itself chooses a free port.
        job = start(splits, {**QUICK, "backbone": "small"}, nproc_per_node=processes, standalone=1)
        said, errors = job.communicate(timeout=300)
        assert job.returncode == 0, errors
        assert losses(volumes, id) == pytest.approx(alone, abs=TOLERANCE), processes
        print(processes, alone, losses(volumes, id))
        told = [event for line in said.splitlines() if isinstance(event := parse(line), Epoch)]
        assert [event.epoch for event in told] == [1, 2, 3], "the first process alone tells"
        load_network(volumes / "model/network" / id)
        assert [path.name for path in (volumes / "model/network").iterdir()] == [id], "one process stores"
        assert not list((volumes / "model/checkpoints").iterdir())
