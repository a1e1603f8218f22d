"""Analyse: the gate can reject, the champion is scored on the same images, the report is self-contained."""

import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from contract.paths import ROOT
from pipeline.local.run import verdict_lines
from steps.analyse.analyse import Analysis, analyse
from steps.common import store
from steps.common.errors import StepError
from steps.common.images.dataset import KIND, Rows, read_split, write_split
from steps.common.models import seen
from steps.common.models.contents import FEATURES_INDEX, ONNX
from steps.common.models.features_index import load
from steps.common.volumes import data_volume
from steps.deploy.export import export_network
from steps.embed.embed import embed
from steps.index.index import index
from tests.support.examples import PARAMS, judging
from tests.support.plain_pictures import draw_nothing

pytestmark = pytest.mark.usefixtures("plain_pictures")


@pytest.fixture(scope="module")
def judged(small_model: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The small model with the verdict on it. Read only."""
    volumes = tmp_path_factory.mktemp("judged") / "volumes"
    shutil.copytree(small_model["volumes"], volumes)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("VOLUMES", str(volumes))
        draw_nothing(patched)
        run(small_model)
    return {**small_model, "volumes": volumes}


@pytest.fixture
def model(judged: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The same, in volumes that this test may write to."""
    shutil.copytree(judged["volumes"], tmp_path / "volumes")
    monkeypatch.setenv("VOLUMES", str(tmp_path / "volumes"))
    return {**judged, "volumes": tmp_path / "volumes"}


def run(model: dict[str, Any], network: str = "network", idx: str = "index", **change: Any) -> Analysis:
    return analyse(model["test"], model[network], model[idx], model["validation"], **judging(**change))


def test_the_evaluation_agrees_with_a_plain_search(model: dict[str, Any]) -> None:
    from steps.common.models.embedding import embed_images, load_network

    analysis = run(model)
    assert analysis.verdict.better
    gallery, test = read_split(model["gallery"]), read_split(model["test"])
    network = load_network(model["volumes"] / "model/network" / model["network"])
    of_test, of_gallery = (embed_images(network, split.images, 100) for split in (test, gallery))
    cosines, found = of_test.embeddings @ of_gallery.embeddings.T, evaluation_of(model, analysis)
    by_features = load(model["volumes"] / "model/index" / model["index"] / "features.npz").distances(of_test.features)
    known = (1 - cosines.max(1) <= found["unknown_distance"]) & (by_features <= found["unknown_features_distance"])
    right = (gallery.labels[cosines.argmax(1)] == test.labels) & known
    assert analysis.verdict.accuracy == pytest.approx(right.mean())
    confusion = np.array(analysis.confusion)
    assert analysis.classes == [*"0123456789", "unknown"]
    assert np.trace(confusion) == right.sum()
    assert confusion[:10].sum(1).tolist() == np.bincount(test.labels).tolist()
    assert (confusion[:10, 10].sum(), confusion[10].sum()) == ((~known).sum(), 0)
    worst = min(range(10), key=lambda i: right[test.labels == i].mean())
    assert analysis.verdict.worst_accuracy == pytest.approx(right[test.labels == worst].mean())


def evaluation_of(model: dict[str, Any], analysis: Analysis) -> dict[str, Any]:
    id = json.loads((analysis.report.parent / "verdict.json").read_text())["evaluation"]
    found: dict[str, Any] = json.loads((model["volumes"] / "model/evaluation" / id / "evaluation.json").read_text())
    return found


def test_golden_images_are_of_every_class_and_the_worst_mistakes_are_sure(model: dict[str, Any]) -> None:
    folder = json.loads((run(crippled(model)).report.parent / "verdict.json").read_text())
    evaluation = model["volumes"] / "model/evaluation" / folder["evaluation"]
    golden = json.loads((evaluation / "golden.json").read_text())
    assert sorted(item["expected"] for item in golden) == sorted("0123456789" * 2)
    mistakes = json.loads((evaluation / "mistakes.json").read_text())
    assert 0 < len(mistakes) <= PARAMS["analyse"]["mistakes"]
    assert all(item["label"] != item["expected"] for item in mistakes)
    distances = [item["distance"] for item in mistakes]
    assert distances == sorted(distances)


def test_the_report_is_self_contained(model: dict[str, Any]) -> None:
    analysis = run(model)
    page = analysis.report.read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert "data:image/png;base64," in page
    assert f"{analysis.verdict.accuracy * 100:.2f} %" in page
    for id in (model["network"], model["index"], model["embeddings"], model["test"], model["train"]):
        assert id in page
    assert "learning_rate = 0.008" in page
    assert '<td>train</td><td>seed</td><td class="number">0</td>' in page
    assert "<td>training</td><td>processor</td>" in page


def test_scoring_again_scores_nothing(model: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    first = run(model)
    capsys.readouterr()
    assert run(model) == first
    assert '"unchanged": true' in capsys.readouterr().out


_AGAIN = """
import json, sys
from steps.analyse.analyse import analyse
ids, sections = json.loads(sys.argv[1])
analysis = analyse(*ids, **sections)
print(json.dumps([analysis.id, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def in_a_process_of_its_own(model: dict[str, Any]) -> tuple[str, set[str]]:
    """The verdict's id, and what was imported for it."""
    ids = [model["test"], model["network"], model["index"], model["validation"]]
    command = [sys.executable, "-c", _AGAIN, json.dumps([ids, judging()])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    id, imported = json.loads(done.stdout.splitlines()[-1])
    return id, set(imported)


@pytest.mark.slow
def test_a_new_verdict_on_answers_that_are_there_imports_no_network_no_index_and_no_picture(
    model: dict[str, Any],
) -> None:
    first = run(model)
    serve(model, model["network"], model["index"])
    id, imported = in_a_process_of_its_own(model)
    assert id != first.id, "it is a new verdict: the model is its own champion now"
    assert "numpy" in imported
    assert not imported & {"torch", "faiss", "matplotlib", "scipy", "PIL"}
    again, imported = in_a_process_of_its_own(model)
    assert again == id
    assert "numpy" not in imported, "nothing is done"


def test_a_network_of_nans_is_rejected_without_an_error(model: dict[str, Any]) -> None:
    folder = model["volumes"] / "model/network" / model["network"]
    weights = {name: tensor * math.nan for name, tensor in load_file(folder / "weights.safetensors").items()}

    def build(target: Path) -> dict[str, Any]:
        shutil.copy(folder / "network.json", target)
        save_file(weights, target / "weights.safetensors")
        return {}

    made_of = {name: model[name] for name in ("train", "validation")}
    network = store.produce(
        model["volumes"] / "model", "network", "train", parameters={"nan": 1}, inputs=made_of, build=build
    ).id
    embeddings = embed(model["gallery"], network, PARAMS["embed"])
    bad = {**model, "network": network, "index": index(embeddings, {"factory": "Flat"})}
    analysis = run(bad)
    assert not analysis.verdict.better
    assert analysis.verdict.accuracy == 0
    assert "Rejected" in analysis.report.read_text()


@cache
def onnx_of(weights: bytes, config: str, features: bytes) -> bytes:
    """A network as ONNX; the export takes seconds, so that each network is exported once."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "weights.safetensors").write_bytes(weights)
        (folder / "network.json").write_text(config)
        (folder / FEATURES_INDEX).write_bytes(features)
        export_network(folder, load(folder / FEATURES_INDEX), folder / ONNX, image_size=28, channels=1)
        return (folder / ONNX).read_bytes()


def serve(model: dict[str, Any], network: str, idx: str, *, asked: bool = True) -> None:
    """Point the deploy volume at an archive that holds this network and index, and unless it is not asked, its ONNX."""
    volumes = model["volumes"]
    (volumes / "deploy-model/model-store").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(volumes / "deploy-model/model-store/m_1.mar", "w") as mar:
        for folder in (volumes / "model/network" / network, volumes / "model/index" / idx):
            for path in folder.iterdir():
                if path.name != "manifest.json":
                    mar.write(path, path.name)
        if asked:
            stored = model["volumes"] / "model/network" / network
            features = (volumes / "model/index" / idx / FEATURES_INDEX).read_bytes()
            files = (stored / "weights.safetensors").read_bytes(), (stored / "network.json").read_text(), features
            mar.writestr(ONNX, onnx_of(*files))
        if had := seen.seen_by(network, idx):
            mar.writestr(seen.FILE, seen.to_bytes(had))
    point(model, {"name": "m", "version": "1", "mar": "m_1.mar", "network": network, "index": idx})


def point(model: dict[str, Any], pointer: dict[str, Any]) -> None:
    """Write the pointer."""
    (model["volumes"] / "deploy-model/current.json").write_text(json.dumps(pointer))


def crippled(model: dict[str, Any]) -> dict[str, Any]:
    """The model with an index of one image a class and half the labels wrong: worse, whatever was learned."""
    whole = read_split(model["gallery"])
    classes = range(len(whole.classes))
    rows = [whole.labels.tolist().index(number) for number in classes]
    said = [whole.classes[number ^ 1 if number < 6 else number] for number in classes]

    def build(target: Path) -> dict[str, Any]:
        known = Rows(**{name: [values[row] for row in rows] for name, values in whole.rows.__dict__.items()})
        write_split(target, said, known, json.loads((whole.path / "pixels.json").read_text())["folder"])
        return {"images": len(rows)}

    inputs = {"images": "one of each class"}
    few = store.produce(data_volume(), KIND, "preprocess", parameters={}, inputs=inputs, build=build).id
    return {**model, "index": index(embed(few, model["network"], PARAMS["embed"]), {"factory": "Flat"})}


@pytest.mark.slow
def test_a_worse_challenger_is_rejected_and_a_better_one_is_not(model: dict[str, Any]) -> None:
    worse = crippled(model)
    serve(model, model["network"], model["index"])
    rejected = run(worse)
    assert not rejected.verdict.better
    assert re.search(r"worse than 1 on \d+ images: right alone on", rejected.verdict.reason)

    serve(model, worse["network"], worse["index"])
    accepted = run(model)
    assert accepted.verdict.better
    assert re.search(r"accuracy 0\.\d+ \(.*\): better than 1 on \d+ images: right alone", accepted.verdict.reason)


@pytest.mark.slow
def test_a_rolled_back_network_and_index_are_rejected_until_put_back(model: dict[str, Any]) -> None:
    worse = crippled(model)
    serve(model, worse["network"], worse["index"])
    accepted = run(model)
    note = {"version": "v2", "network": model["network"], "index": model["index"], "at": "2026-01-02T03:04:05+00:00"}
    pointer = {"name": "m", "version": "1", "mar": "m_1.mar", "network": worse["network"], "index": worse["index"]}
    point(model, {**pointer, "rolled_back": [note]})
    rejected = run(model)
    assert accepted.verdict.better
    assert not rejected.verdict.better
    assert rejected.verdict.reason.endswith(
        "v2 was rolled back on 2026-01-02T03:04:05+00:00: make rollback VERSION=v2 puts it back"
    )
    assert rejected.id != accepted.id
    assert not json.loads((rejected.report.parent / "verdict.json").read_text())["better"]
    point(model, {**pointer, "rolled_back": [{**note, "index": "another"}]})
    assert run(model) == accepted, "another index with the same network is another model"


@pytest.mark.slow
def test_what_is_served_is_not_rejected_for_another_version_of_it(model: dict[str, Any]) -> None:
    serve(model, model["network"], model["index"])
    pointer = json.loads((model["volumes"] / "deploy-model/current.json").read_text())
    note = {"version": "v2", "network": model["network"], "index": model["index"], "at": "then"}
    point(model, {**pointer, "rolled_back": [note]})
    assert run(model).verdict.better


def test_the_champion_is_scored_from_what_is_served(model: dict[str, Any]) -> None:
    """Even if the store no longer has its network and index."""
    worse = crippled(model)
    serve(model, worse["network"], worse["index"])
    shutil.rmtree(model["volumes"] / "model/index" / worse["index"])
    assert "better than 1 on" in run(model).verdict.reason


def write_mar_settings(model: dict[str, Any], **settings: float) -> None:
    with zipfile.ZipFile(model["volumes"] / "deploy-model/model-store/m_1.mar", "a") as mar:
        mar.writestr("model.json", json.dumps(settings))


def test_a_champion_that_cannot_be_read_stops_the_run(model: dict[str, Any]) -> None:
    worse = crippled(model)
    serve(model, worse["network"], worse["index"], asked=False)
    (model["volumes"] / "deploy-model/model-store/m_1.mar").write_bytes(b"broken")
    with pytest.raises(StepError, match=r"m_1\.mar, cannot be read .* restore it from backup/"):
        run(model)


def test_a_damaged_pointer_stops_the_run(model: dict[str, Any]) -> None:
    serve(model, model["network"], model["index"], asked=False)
    (model["volumes"] / "deploy-model/current.json").write_text("{")
    with pytest.raises(StepError, match=r"current\.json cannot be read .*restore it, or remove it"):
        run(model)


def test_a_champion_is_scored_with_the_distance_of_its_own_archive(model: dict[str, Any]) -> None:
    worse = crippled(model)
    for settings, distance in ((None, None), ({"unknown_distance": 0.25}, 0.25)):
        serve(model, worse["network"], worse["index"])
        if settings:
            write_mar_settings(model, **{"image_size": 28, "channels": 1, **settings})
        id = json.loads((run(model).report.parent / "manifest.json").read_text())["inputs"]["champion"]
        champion = json.loads((model["volumes"] / "model/evaluation" / id / "manifest.json").read_text())
        assert champion["facts"]["unknown_distance"] == distance


def test_the_served_model_judged_again_is_the_champion_itself(model: dict[str, Any]) -> None:
    first = run(model)
    serve(model, model["network"], model["index"], asked=False)
    assert "its network and index are those served already" in run(model).verdict.reason
    (model["volumes"] / "deploy-model/model-store/m_1.mar").write_bytes(b"broken")  # deploy will put it right
    again = run(model)
    assert again.verdict.better
    assert again.verdict.accuracy == first.verdict.accuracy


def test_what_the_network_lacks_is_in_the_report_and_in_the_closing_lines(model: dict[str, Any]) -> None:
    ids = model["test"], model["network"], model["index"], model["validation"]
    lacking = analyse(*ids, **judging(), lacking="no <pretrained> weights")
    assert "no &lt;pretrained&gt; weights." in lacking.report.read_text()
    assert ("lacking", "no <pretrained> weights") in verdict_lines(lacking.verdict)
    whole = analyse(*ids, **judging())
    assert "lacking" not in dict(verdict_lines(whole.verdict))
    assert "pretrained" not in whole.report.read_text()
