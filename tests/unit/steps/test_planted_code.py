"""Code that somebody put on the volumes never runs: each plant creates a file when it does.

Whoever plants may also write manifests, so each planted file has its SHA-256 in the manifest of its artefact.
"""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.pointer import Pointer
from steps.analyse.analyse import analyse
from steps.common.digest import file_sha256
from steps.common.errors import StepError
from steps.common.images.dataset import read_split
from steps.common.models.contents import ONNX
from steps.common.store import artefact_id, produce, read
from steps.common.volumes import data_volume, model_volume
from steps.deploy import deploy as deploying
from steps.deploy.archive import CODE, HANDLER, MAR, ROOT
from steps.deploy.release.volume import write_pointer
from steps.embed.embed import embed
from steps.index.index import index
from steps.train.train import train
from tests.support.examples import PARAMS, judging


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that a plant creates when it runs."""
    return tmp_path / "ran"


@pytest.fixture
def module(marker: Path) -> bytes:
    """A module that runs when it is imported, and whose functions do what the project's would."""
    return f"open({str(marker)!r}, 'w')\nfrom steps.common.models.embedding import load_network as load\n".encode()


def objects(marker: Path) -> bytes:
    """A `.npy` file of Python objects."""
    file = io.BytesIO()
    np.save(file, np.array([Trap(marker)], dtype=object), allow_pickle=True)
    return file.getvalue()


def weights_of_pickles(marker: Path) -> bytes:
    """A `.pt` file, as `torch.save` writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("archive/data.pkl", pickle.dumps(Trap(marker)))
        packed.writestr("archive/version", "3\n")
        packed.writestr("archive/byteorder", "little")
    return file.getvalue()


def plant(folder: Path, name: str, data: bytes) -> None:
    """Put a file into an artefact, and into its manifest."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(data), "sha256": file_sha256(folder / name)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_each_plant_would_run_where_code_is_taken(marker: Path, module: bytes) -> None:
    ways: dict[str, Callable[[], Any]] = {
        "module": lambda: exec(module, {}),
        "npy": lambda: np.load(io.BytesIO(objects(marker)), allow_pickle=True),
        "pt": lambda: pickle.loads(zipfile.ZipFile(io.BytesIO(weights_of_pickles(marker))).read("archive/data.pkl")),
    }
    for way in ways.values():
        way()
        marker.unlink()


def test_modules_beside_weights_and_index_are_not_run(model: dict[str, Any], marker: Path, module: bytes) -> None:
    """Embedded and analysed again from artefacts that hold modules."""
    for kind in ("network", "index", "embeddings"):
        for name in ("network.py", "handler.py", "sitecustomize.py", "faiss.py", "labels.pkl"):
            plant(model["volumes"] / "model" / kind / model[kind], name, module)
    embeddings = embed(model["gallery"], model["network"], {"batch_size": 100})
    assert embeddings == model["embeddings"]
    other = produce(
        model_volume(),
        "index",
        "index",
        parameters={"again": 1},
        inputs={"embeddings": embeddings},
        build=lambda folder: (
            [
                (folder / name).write_bytes((model_volume() / "index" / model["index"] / name).read_bytes())
                for name in ("index.faiss", "features.npz", "labels.json", "network.py")
            ]
            and {}
        ),
    ).id
    assert analyse(model["test"], model["network"], other, model["validation"], **judging()).verdict.better
    assert not marker.exists()


def test_an_architecture_that_is_not_of_this_image_is_refused(model: dict[str, Any], marker: Path) -> None:
    folder = model["volumes"] / "model/network" / model["network"]
    config = json.loads((folder / "network.json").read_text())
    for change in ({"depth": 9}, {"widths": [10**6, 10**6]}, {"widths": "no list"}, {"widths": []}):
        plant(folder, "network.json", json.dumps({**config, **change}).encode())
        with pytest.raises(StepError, match=r"holds no network of steps/common/models/network\.py"):
            analyse(model["test"], model["network"], model["index"], model["validation"], **judging())
    plant(folder, "network.json", json.dumps(config).encode())
    plant(folder, "weights.safetensors", weights_of_pickles(marker))
    with pytest.raises(StepError, match="holds no network"):
        analyse(model["test"], model["network"], model["index"], model["validation"], **judging())
    assert not marker.exists()


def test_arrays_of_objects_are_not_unpickled(model: dict[str, Any], marker: Path) -> None:
    plant(model_volume() / "embeddings" / model["embeddings"], "embeddings.npy", objects(marker))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        index(model["embeddings"], {"factory": "HNSW8"})
    plant(model_volume() / "embeddings" / model["embeddings"], "features.npy", objects(marker))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        index(model["embeddings"], {"factory": "HNSW4"})
    plant(data_volume() / "dataset" / model["test"], "labels.npy", objects(marker))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        analyse(model["test"], model["network"], model["index"], model["validation"], **judging())
    assert not marker.exists()


def test_a_checkpoint_of_pickles_is_not_unpickled(
    model: dict[str, Any], marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parameters = {**PARAMS["train"], "epochs": 1, "widths": [4], "embedding_size": 4}
    splits = (model["train"], model["validation"])
    id = train(*splits, parameters)
    for path in (model_volume() / "network" / id).iterdir():
        path.unlink()
    checkpoint = model_volume() / f"checkpoints/{id}.pt"
    checkpoint.parent.mkdir(exist_ok=True)
    checkpoint.write_bytes(weights_of_pickles(marker))
    assert train(*splits, parameters) == id
    assert "is damaged, so training starts anew" in capsys.readouterr().out
    assert not marker.exists()


@pytest.mark.parametrize("has_onnx", [True, False])
def test_a_champion_of_another_architecture_is_asked_by_onnx_or_refused(
    model: dict[str, Any], marker: Path, module: bytes, has_onnx: bool
) -> None:
    """Its archive is of an earlier version of this project, with its network as a module."""
    mar = model["volumes"] / "deploy-model/model-store/m_1.mar"
    mar.parent.mkdir(parents=True)
    stored = model_volume() / "index" / model["index"]
    side, channels, dimensions = 28, 1, 64
    with zipfile.ZipFile(mar, "w") as archive:
        archive.writestr("network.py", module)
        archive.writestr("network.json", '{"of": "another architecture"}')
        archive.writestr("weights.safetensors", b"of another architecture")
        archive.writestr("handler.py", module)
        archive.writestr("model.json", json.dumps({"image_size": side, "channels": channels}))
        for name in ("index.faiss", "labels.json"):
            archive.write(stored / name, name)
        if has_onnx:
            archive.writestr(ONNX, first_pixels(side, dimensions))
    write_pointer(Pointer(name="m", version="1", mar=mar.name, network="another", index="another"))
    if has_onnx:
        judged = analyse(model["test"], model["network"], model["index"], model["validation"], **judging())
        champion = json.loads((judged.report.parent / "manifest.json").read_text())["inputs"]["champion"]
        assert read(model_volume(), "evaluation", champion).facts["asked"] == len(read_split(model["test"]))
    else:
        with pytest.raises(StepError, match=r"m_1\.mar, holds its network as code alone, which is not run .* remove"):
            analyse(model["test"], model["network"], model["index"], model["validation"], **judging())
    assert not marker.exists()


def first_pixels(side: int, dimensions: int) -> bytes:
    """A poor network as ONNX: the first pixels of an image."""
    import onnx
    from onnx import TensorProto

    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            make("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            make("Flatten", ["floats"], ["flat"]),
            make("Slice", ["flat", "from", "to", "axis"], ["embeddings"]),
        ],
        "pixels",
        [value("images", TensorProto.UINT8, ["n", side, side, 1])],
        [value("embeddings", TensorProto.FLOAT, ["n", dimensions])],
        [
            onnx.numpy_helper.from_array(np.array([n]), name)
            for name, n in (("from", 0), ("to", dimensions), ("axis", 1))
        ],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


@pytest.mark.slow
def test_deploy_archives_its_own_modules_and_takes_no_archive_from_the_model_volume(
    model: dict[str, Any], marker: Path, module: bytes
) -> None:
    verdict = analyse(model["test"], model["network"], model["index"], model["validation"], **judging()).id
    for kind in ("network", "index"):
        for name in ("network.py", "handler.py", "predictor.py", "decode.py"):
            plant(model_volume() / kind / model[kind], name, module)
    evaluation = model_volume() / "evaluation" / read(model_volume(), "verdict", verdict).facts["evaluation"]
    settings = deploying.Deploy(**PARAMS["deploy"])
    served = {"name": "digits", "image_size": 28, "channels": 1, **settings.deciding()}
    facts = json.loads((evaluation / "manifest.json").read_text())["facts"]
    served |= {name: facts[name] for name in ("unknown_distance", "unknown_features_distance")}
    inputs = {"network": model["network"], "index": model["index"]}
    expected = artefact_id(deploying.STEP, deploying.decides(served, **inputs), inputs, deploying.ARCHIVE)
    finished(model_volume() / "archive" / expected, module)

    version = deploying.deploy(*inputs.values(), verdict, name="digits", parameters=PARAMS["deploy"])
    assert version == expected, "the plant has the very id that deploy looks for"
    with zipfile.ZipFile(model["volumes"] / f"deploy-model/model-store/digits_{version}.mar") as archive:
        assert "network.py" not in archive.namelist()
        for path in (*CODE, HANDLER):
            assert archive.read(Path(path).name) == (ROOT / path).read_bytes()
    assert not marker.exists()


def finished(folder: Path, module: bytes) -> None:
    """A finished archive, as an artefact whose manifest says that it was proven."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / MAR, "w") as archive:
        archive.writestr("handler.py", module)
    sha256 = file_sha256(folder / MAR)
    facts = {"mar": MAR, "sha256": sha256, "proven": 20, "prediction": {"expected": "7", "answer": {"label": "7"}}}
    files = {MAR: {"bytes": (folder / MAR).stat().st_size, "sha256": sha256}}
    (folder / "manifest.json").write_text(json.dumps({"format": 2, "facts": facts, "files": files, "inputs": {}}))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("labels.json", {"classes": ["a"], "gallery": [0, 7]}, "a label is 7, of 1 classes|size, number and metric"),
        ("labels.json", {"classes": ["a"], "gallery": [0], "code": "x"}, "code"),
        ("labels.json", {"classes": [1], "gallery": [0]}, "classes"),
        ("golden.json", [], "golden"),
        ("golden.json", [{"image": "!", "name": "a", "expected": "a", "label": "a", "distance": 0}], "golden"),
        ("features.npz", {}, "features.npz on the model volume is not of its form"),
        ("reference.json", {"distances": ["x"], "features_distances": None, "answers": {}}, "reference.json"),
        ("reference.json", {"distances": [0.1], "features_distances": [], "answers": {}}, "distances of features"),
        ("reference.json", {"distances": [], "features_distances": None, "answers": {"a": "1"}}, "a number of answers"),
    ],
)
def test_data_of_another_form_are_not_archived(
    model: dict[str, Any], tmp_path: Path, name: str, content: Any, says: str
) -> None:
    from steps.deploy.shape import check_golden, check_index, read_features, read_reference

    stored = model_volume() / "index" / model["index"]
    for file in ("index.faiss", "features.npz", "labels.json"):
        (tmp_path / file).write_bytes((stored / file).read_bytes())
    read_features(tmp_path)
    check_index(tmp_path, 64)
    with pytest.raises(StepError, match="the index on the model volume is not of its form .*, not"):
        check_index(tmp_path, 32)
    (tmp_path / name).write_text(json.dumps(content))
    checks = {"golden.json": lambda: check_golden(tmp_path / name), "features.npz": lambda: read_features(tmp_path)}
    checks["reference.json"] = lambda: read_reference(tmp_path)
    with pytest.raises(StepError, match=says):
        checks.get(name, lambda: check_index(tmp_path, 64))()
