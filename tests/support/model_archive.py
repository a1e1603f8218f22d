"""A tiny real model archive for the tests of serving: a network of five operations on 8 x 8 grey images, and an index.

The class is the bright quarter of the image, so the right answer is obvious.
"""

import base64
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from contract.pointer import THUMBNAILS
from serving.model.payload import Request
from steps.deploy.archive import CODE, CONFIG, HANDLER
from tests.support.pixels import nodes_of_distance

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["upper left", "upper right", "lower left", "lower right"]
SIZE = 8
MAX_PIXELS = 10_000
MAX_INSTANCES = 5
UNKNOWN_DISTANCE = 0.3  # an evenly grey image is farther from every gallery image
UNKNOWN_FEATURES_DISTANCE = 0.15  # likewise
NAME = "quarters"
VERSION = "0123abcd"


def picture(quarter: int, bright: int = 200, size: int = SIZE) -> NDArray[np.uint8]:
    """A grey image with one bright quarter."""
    pixels = np.full((size, size), 10, np.uint8)
    half, (down, right) = size // 2, divmod(quarter, 2)
    pixels[down * half : (down + 1) * half, right * half : (right + 1) * half] = bright
    return pixels


def png(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """An image file of these pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def instances(*files: bytes, **more: Any) -> Request:
    """A request with these image files as JSON instances; `more` are further keys of the body."""
    encoded = [{"b64": base64.b64encode(file).decode()} for file in files]
    return Request(json.dumps({"instances": encoded, **more}).encode(), "application/json")


def write_model(folder: Path, version: str = VERSION, *, with_features: bool = True) -> Path:
    """Write the files of the archive, except MAR-INF, into a folder; an older one has no features."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(quarter, bright) for quarter in range(4) for bright in (120, 160, 200)]
    gallery = np.array([np.where(np.arange(4) == quarter, bright, 10.0) for quarter, bright in rows], np.float32)
    index = faiss.IndexFlatIP(4)
    index.add(gallery / np.linalg.norm(gallery, axis=1, keepdims=True))
    faiss.write_index(index, str(folder / "index.faiss"))
    known = np.sqrt(gallery / gallery.sum(axis=1, keepdims=True)).T
    onnx.save(_network(known if with_features else None), folder / "network.onnx")
    labels = {"classes": CLASSES, "gallery": [quarter for quarter, _ in rows]}
    model = {"name": NAME, "version": version, "image_size": SIZE, "channels": 1, "neighbours": 3}
    model |= {"max_pixels": MAX_PIXELS, "max_instances": MAX_INSTANCES}
    model |= {"polarity": "light-on-dark", "unknown_distance": UNKNOWN_DISTANCE}
    model |= {"unknown_features_distance": UNKNOWN_FEATURES_DISTANCE} if with_features else {}
    golden = [
        {"image": base64.b64encode(png(picture(quarter))).decode(), "expected": label, "label": label, "distance": 0.0}
        for quarter, label in enumerate(CLASSES)
    ]
    files = {"labels.json": labels, "model.json": model, "golden.json": golden}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    for source in (*CODE, HANDLER, CONFIG):
        shutil.copy(ROOT / source, folder)
    return folder


def add_thumbnails(folder: Path) -> Path:
    """Add pictures of the gallery to a model's files, as deploy does."""
    image, layout = THUMBNAILS
    sheet = np.vstack([np.hstack([picture(row) for _ in range(3)]) for row in range(4)])
    (folder / image).write_bytes(png(sheet, "WEBP"))
    (folder / layout).write_text(json.dumps({"side": SIZE, "columns": 3, "count": 12}))
    return folder


def _network(known: NDArray[np.float32] | None) -> onnx.ModelProto:
    """A network whose features and embedding are the brightness of the four quarters, normalised."""
    value = onnx.helper.make_tensor_value_info
    images = value("images", onnx.TensorProto.UINT8, ["n", SIZE, SIZE, 1])
    embeddings = value("embeddings", onnx.TensorProto.FLOAT, ["n", 4])
    half = [SIZE // 2] * 2
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("AveragePool", ["planes"], ["pooled"], kernel_shape=half, strides=half),
        onnx.helper.make_node("Flatten", ["pooled"], ["quarters"]),
        onnx.helper.make_node("LpNormalization", ["quarters"], ["embeddings"], axis=1, p=2),
        onnx.helper.make_node("Sqrt", ["quarters"], ["roots"]),
        onnx.helper.make_node("LpNormalization", ["roots"], ["features"], axis=1, p=2),
    ]
    if known is None:
        graph = onnx.helper.make_graph(nodes[:-2], "quarters", [images], [embeddings])
    else:
        more, constants = nodes_of_distance(known)
        outputs = [embeddings, value("features_distance", onnx.TensorProto.FLOAT, ["n"])]
        graph = onnx.helper.make_graph([*nodes, *more], "quarters", [images], outputs, constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


def archive(folder: Path, mar: Path) -> Path:
    """Pack a folder as torch-model-archiver does, without its half second of start-up."""
    model = {
        "modelName": "model",
        "handler": "handler.py",
        "modelVersion": json.loads((folder / "model.json").read_text())["version"],
        "configFile": "model-config.yaml",
    }
    manifest = {"createdOn": "01/01/2026 00:00:00", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    mar.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(mar, "w") as packed:
        packed.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        for path in sorted(folder.iterdir()):
            packed.write(path, path.name)
    return mar
