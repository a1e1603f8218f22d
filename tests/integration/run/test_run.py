"""`python -m pipeline run` as a user runs it: its output, repeated work, and refused input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.paths import ROOT
from steps.preprocess.sources.sample import SAMPLE
from steps.registry import STEP_NAMES
from tests.support.examples import OPEN_GATE, write_images
from tests.support.pipeline_run import QUICK, Done, last_line, made_anew, run, run_command, seconds, tree

FEW = {**QUICK, "data": {"source": "folder"}}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """The first run on volumes that hold nothing but some digits, and its volumes."""
    volumes = tmp_path_factory.mktemp("run with space") / "volumes"
    write_images(volumes / "data/images/train", {digit: digit for digit in "0123456789"}, count=60)
    return volumes, run(volumes, FEW)


def copy(volumes: Path, tmp_path: Path) -> Path:
    return shutil.copytree(volumes, tmp_path / "volumes")


@pytest.mark.slow
def test_a_first_run_deploys_and_shows_what_it_did(first: tuple[Path, Done]) -> None:
    volumes, done = first
    assert last_line(done).startswith("DEPLOYED ")
    assert made_anew(done) == set(STEP_NAMES)
    assert "epoch 2/2: loss " in done.stdout
    assert "KFP Executor" not in done.stdout + done.stderr
    pointer = json.loads((volumes / "deploy-model/current.json").read_text())
    mar = volumes / "deploy-model/model-store" / pointer["mar"]
    lines = dict(re.findall(r"^(accuracy|worst class|served model|prediction|report|log) +(.*)$", done.stdout, re.M))
    assert re.fullmatch(
        rf"{pointer['accuracy']:.4f} \(0\.\d{{4}} to \d\.\d{{4}}\) on the test split", lines["accuracy"]
    )
    assert lines["worst class"] == f"{pointer['worst_class']['label']}, {pointer['worst_class']['accuracy']:.4f}"
    assert Path(lines["served model"]) == mar
    assert zipfile.is_zipfile(mar)
    answer = pointer["prediction"]["answer"]
    assert lines["prediction"].startswith(f"{answer['label']} for a test image of ")
    assert answer["model"]["version"] == pointer["version"]
    assert "<html" in Path(lines["report"]).read_text()
    assert "KFP Executor" in Path(lines["log"]).read_text()


@pytest.mark.slow
def test_the_archive_holds_all_that_serving_needs(first: tuple[Path, Done]) -> None:
    volumes, _ = first
    pointer = json.loads((volumes / "deploy-model/current.json").read_text())
    with zipfile.ZipFile(volumes / "deploy-model/model-store" / pointer["mar"]) as mar:
        names = set(mar.namelist())
        provenance = json.loads(mar.read("provenance.json"))
    assert names >= {
        "handler.py",
        "network.onnx",
        "weights.safetensors",
        "index.faiss",
        "features.npz",
        "labels.json",
        "golden.json",
        "reference.json",
        "seen.npz",
    }
    kinds = [made["kind"] for made in provenance["artefacts"].values()]
    assert sorted(kinds) == ["dataset", "dataset", "dataset", "embeddings", "index", "network"]
    assert all(made["code"] for made in provenance["artefacts"].values())


@pytest.mark.slow
def test_a_second_run_does_nothing_twice(first: tuple[Path, Done], tmp_path: Path) -> None:
    volumes = copy(first[0], tmp_path)
    pointer = (volumes / "deploy-model/current.json").read_bytes()
    done = run(volumes, FEW)
    assert last_line(done).startswith("UNCHANGED ")
    assert set(seconds(done).values()) == {"unchanged"}
    assert (volumes / "deploy-model/current.json").read_bytes() == pointer


@pytest.mark.slow
def test_changed_epochs_train_anew_and_preprocess_nothing(first: tuple[Path, Done], tmp_path: Path) -> None:
    volumes = copy(first[0], tmp_path)
    served = json.loads((volumes / "deploy-model/current.json").read_text())
    done = run(volumes, {**FEW, "train": {"epochs": 5}, "gate": {**OPEN_GATE, "on_tie": "replace"}})
    made = set(STEP_NAMES) - {"preprocess", "validate"}
    compared = rf"(better than|equal to|worse than) {served['version']} on \d+ images: right alone on"
    found = re.search(compared, last_line(done))
    assert found, last_line(done)
    if found[1] == "worse than":  # which a training may be
        assert last_line(done).startswith("REJECTED ")
        assert made_anew(done) == made - {"deploy"}
    else:
        assert last_line(done).startswith("DEPLOYED ")
        assert made_anew(done) == made


@pytest.mark.slow
def test_a_worse_challenger_leaves_serving_untouched(first: tuple[Path, Done], tmp_path: Path) -> None:
    volumes = copy(first[0], tmp_path)
    before = tree(volumes / "deploy-model")
    nothing_learned = {"epochs": 1, "widths": [4, 4, 4], "embedding_size": 2, "learning_rate": 1e-12}
    done = run(volumes, {**FEW, "train": nothing_learned})
    assert last_line(done).startswith("REJECTED ")
    assert "worse than " in last_line(done)
    assert seconds(done)["deploy"] == "-"
    assert tree(volumes / "deploy-model") == before


@pytest.mark.slow
def test_an_edited_step_runs_again_with_what_depends_on_it(first: tuple[Path, Done], tmp_path: Path) -> None:
    volumes = copy(first[0], tmp_path)
    root = tmp_path / "repository"
    for name in ("contract", "pipeline", "steps", "serving"):
        shutil.copytree(ROOT / name, root / name)
    with (root / "steps/index/index.py").open("a") as code:
        code.write("\nEDITED = True\n")
    done = run(volumes, FEW, root)
    assert made_anew(done) == {"index", "analyse", "deploy"} - ({"deploy"} if "REJECTED" in last_line(done) else set())
    assert last_line(done).startswith("REJECTED "), "the same embeddings of the same images are a tie, and not fresher"


@pytest.mark.slow
def test_shuffled_labels_are_rejected_and_leave_no_archive(tmp_path: Path) -> None:
    """A gate that can say no: nothing can be learned from labels drawn at random."""
    volumes = tmp_path / "volumes"
    with np.load(SAMPLE) as sample:
        images = sample["images"][::8]
    labels = np.random.default_rng(0).integers(10, size=len(images))
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = volumes / "data/images/train" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{row}.png")
    done = run(volumes, {"data": {"source": "folder"}, "train": {"epochs": 4}})
    assert last_line(done).startswith("REJECTED ")
    assert "is not above the baseline 0.8000; " in last_line(done)
    assert last_line(done).endswith("; nothing is served")
    assert not list((volumes / "deploy-model").rglob("*"))


@pytest.mark.slow
def test_a_folder_of_any_labels_and_its_new_gallery_class(tmp_path: Path) -> None:
    """Labels may be any words, and a new class needs only gallery images."""
    volumes = tmp_path / "volumes"
    words = {"none of it": "0", "a stroke": "1", "häkchen ✓": "7"}
    for part, first, count in (("train", 0, 60), ("gallery", 60, 20), ("test", 80, 20)):
        write_images(volumes / "data/images" / part, words, first, count)
    change = {"data": {"source": "folder"}, "train": {"epochs": 12, "batch_size": 32}, "gate": OPEN_GATE}
    done = run(volumes, change)
    assert last_line(done).startswith("DEPLOYED ")

    write_images(volumes / "data/images/gallery", {"new": "6"}, 60, 20)
    done = run(volumes, change)
    assert made_anew(done) & {"train"} == set()
    assert {"preprocess", "embed", "index"} <= made_anew(done)


def test_a_step_that_fails_says_why_and_where_the_log_is(tmp_path: Path) -> None:
    done = run(tmp_path / "volumes", {"data": {"source": "folder"}})
    assert done.returncode == 1
    assert re.match(r"error: preprocess failed: .*put images into train/<label>/ there\nlog: .*\.log$", done.stderr)
    assert "Traceback" not in done.stdout + done.stderr
    assert "Traceback" in Path(done.stderr.split("log: ")[1].strip()).read_text()


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "volumes").mkdir()
    (tmp_path / "temporary").mkdir()
    command = run_command(tmp_path / "volumes", {})
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, env=environment, **pipes)
    for line in process.stdout or ():
        if line.startswith("  epoch 1/"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said == "interrupted: finished work is kept, and the same command goes on from there\n"
    deadline = time.monotonic() + 20
    while subprocess.run(["pgrep", "--session", str(process.pid)], check=False, capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "a step runs on"
        time.sleep(0.1)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_volumes_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "volumes").write_text("a file")
    command = [sys.executable, "-m", "pipeline", "run", "--volumes", tmp_path / "volumes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{tmp_path}/volumes" in done.stderr
    assert "choose another folder with VOLUMES=/elsewhere" in done.stderr
    assert "Traceback" not in done.stderr
