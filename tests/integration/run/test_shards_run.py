"""The whole pipeline with `kubeflow.preprocess.shards: 3`: the graph with its loop, in processes of this machine."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from contract.paths import ROOT
from steps.preprocess.preprocess import preprocess
from steps.preprocess.sources.sample import SAMPLE
from tests.support.examples import PARAMS
from tests.support.pipeline_run import QUICK, Done, last_line, seconds
from tests.support.settings import PROJECT_FILE

pytestmark = pytest.mark.slow

COUNT = 6_200  # of which each of three shards has 2,000, the fewest for which it pays
FOLDER = {**PARAMS["data"], "source": "folder"}


def write_digits(train: Path) -> None:
    with np.load(SAMPLE) as sample:
        images, labels = sample["images"], sample["labels"]
    for number in range(COUNT):
        row = number % len(images)
        folder = train / str(labels[row])
        folder.mkdir(parents=True, exist_ok=True)
        shown = images[row] if number == row else np.roll(images[row], 1, axis=0)
        Image.fromarray(shown).save(folder / f"{number}.png", compress_level=1)


def run(volumes: Path) -> Done:
    settings = {"params": {**PARAMS, "data": FOLDER}, "project": yaml.safe_load(PROJECT_FILE.read_text())}
    for section, change in QUICK.items():
        settings["params"][section] = {**PARAMS[section], **change}
    settings["project"]["kubeflow"]["preprocess"] = {"shards": 3}
    words = ["--volumes", str(volumes)]
    for name, values in settings.items():
        path = volumes.parent / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        words += [f"--{name}", str(path)]
    command = [sys.executable, "-m", "pipeline", "run", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_whole_graph_with_three_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volumes, alone = tmp_path / "volumes", tmp_path / "alone"
    write_digits(volumes / "data/images/train")
    first = run(volumes)
    assert last_line(first).startswith("DEPLOYED")
    assert f"scan: {COUNT} images to read, in 3 shards" in first.stdout
    assert [line for line in first.stdout.splitlines() if line.startswith("decode ") and "3 shards" in line] != []
    assert list(seconds(first)) == ["preprocess", "validate", "train", "embed", "index", "analyse", "deploy"]
    (alone / "data").mkdir(parents=True)
    (alone / "data/images").symlink_to(volumes / "data/images")
    monkeypatch.setenv("VOLUMES", str(alone))
    assert set(preprocess(FOLDER).values()) == {path.name for path in (volumes / "data/dataset").glob("[!.]*")}
    again = run(volumes)
    assert last_line(again).startswith("UNCHANGED")
    assert set(seconds(again).values()) == {"unchanged"}
    assert "scan        unchanged  no image is new" in again.stdout
