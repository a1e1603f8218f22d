"""Image files with their pixels: preprocess and the server decode them alike."""

import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.model import deadline, payload
from serving.model.payload import Request
from serving.model.predictor import Predictor
from steps.common.images.dataset import read_split
from steps.preprocess.preprocess import preprocess
from tests.support import image_vectors
from tests.support.examples import PARAMS
from tests.support.model_archive import write_model

VECTORS = image_vectors.load()


def close(pixels: Any, expected: Any, name: str) -> bool:
    """Equal, but for what two releases of a lossy decoder may differ by."""
    lossy = name.endswith((".jpeg", "colour.webp"))
    return bool(np.abs(pixels.astype(int) - expected).max() <= (3 if lossy else 0))


def test_the_vectors_are_of_many_kinds() -> None:
    assert len(VECTORS) > 35
    opened = [Image.open(io.BytesIO(data)) for data, _ in VECTORS.values()]
    assert {image.format for image in opened} == {"PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"}
    assert {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"} <= {image.mode for image in opened}
    assert sum(getattr(image, "n_frames", 1) > 1 for image in opened) == 3
    assert {image.getexif().get(0x0112) for image in opened} >= set(range(2, 9))


@pytest.mark.parametrize(("size", "channels"), image_vectors.SETTINGS)
def test_preprocess_makes_these_pixels(volumes: Path, size: int, channels: int) -> None:
    for part in ("train", "gallery", "test"):
        for name, (data, _) in VECTORS.items():
            path = volumes / "data/images" / part / Path(name).suffix[1:] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    settings = {"source": "folder", "image_size": size, "channels": channels, "validation_fraction": 0.1}
    split = read_split(preprocess({**PARAMS["data"], **settings})["test"])
    found = {Path(name).name: pixels for name, pixels in zip(split.names, split.images, strict=True)}
    assert set(found) == set(VECTORS)
    wrong = [name for name, (_, pixels) in VECTORS.items() if not close(found[name], pixels[size, channels], name)]
    assert not wrong


def module_of(folder: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("channels", [1, 3])
def test_the_archives_own_code_makes_these_pixels(tmp_path: Path, channels: int) -> None:
    size = next(size for size, number in image_vectors.SETTINGS if number == channels)
    folder = write_model(tmp_path)
    predictor = Predictor(folder, module_of(folder, "decode"), module_of(folder, "payload"), deadline)
    predictor._shape = (size, channels)
    files = {name: payload.read(Request(data), 1) for name, (data, _) in VECTORS.items()}
    predictor._max_pixels = 10**7
    found = {name: predictor._decode(file)[0] for name, file in files.items()}
    wrong = [name for name, (_, pixels) in VECTORS.items() if not close(found[name], pixels[size, channels], name)]
    assert not wrong


def test_the_other_polarity_inverts_the_pixels(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    predictor = Predictor(folder, module_of(folder, "decode"), payload, deadline)
    predictor._max_pixels = 10**7
    assert json.loads((folder / "model.json").read_text())["polarity"] == "light-on-dark"
    for name, (data, pixels) in VECTORS.items():
        [found] = predictor._decode(payload.read(Request(data, parameters={"polarity": "dark-on-light"}), 1))
        assert close(found, 255 - pixels[8, 1].astype(int), name), name
