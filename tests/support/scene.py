"""A scene for verdicts: splits of chosen images, and models that need no training, on volumes of a test's own.

A model compares pixels: its network is `tests/support/pixels.py`, which a test sets as the architecture of the project.
"""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from contract.pointer import Pointer
from steps.analyse.analyse import Analysis, analyse
from steps.common.images.content_key import key_of_pixels
from steps.common.images.dataset import KIND, Rows, write_split
from steps.common.models import seen
from steps.common.models.contents import ONNX
from steps.common.store import produce
from steps.common.volumes import data_volume, deploy_volume, model_volume
from steps.deploy.release.volume import write_pointer
from steps.embed.embed import embed
from steps.index.index import index
from steps.preprocess.sources.sample import SAMPLE
from tests.support.examples import PARAMS, judging
from tests.support.pixels import pixels_as_onnx
from tests.support.stored_images import store_images

Images = NDArray[np.uint8]
SIDE = 14  # pixels of an image in a split: half of what the sample has, since the index takes the cube of their number


@dataclass(frozen=True)
class Model:
    """The ids of a network and an index, and of the splits that they come from."""

    network: str
    index: str
    validation: str
    train: str


def digits(first: int, count: int, labels: str = "0123456789") -> tuple[Images, list[str]]:
    """`count` images uint8 [N, 28, 28] of each of these digits, from the `first` on, and their labels."""
    with np.load(SAMPLE) as sample:
        rows = [np.flatnonzero(sample["labels"] == int(label))[first : first + count] for label in labels]
        return sample["images"][np.concatenate(rows)], [label for label in labels for _ in range(count)]


def split(
    images: Images,
    labels: Sequence[str],
    *,
    size: int = SIDE,
    files: str = "",
    groups: Sequence[str] | None = None,
) -> str:
    """A split of these images at this size; with `files`, that is the folder of their originals on the data volume."""
    keys = [key_of_pixels(image) for image in images]
    names = [f"image-{key}" for key in keys]
    scaled = np.stack([np.asarray(Image.fromarray(image).resize((size, size))) for image in images])[..., None]
    shards = f"{size}x{size}x1-scene"
    originals = [f"{files}/{key}.png" if files else "" for key in keys]
    for path, image in zip(originals, images, strict=True):
        if path:
            (data_volume() / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(data_volume() / path)

    def build(folder: Path) -> dict[str, Any]:
        store_images(shards, keys, scaled)
        write_split(folder, labels, Rows(names, keys, list(groups or keys), originals), shards)
        return {"images": len(images), "unreadable": []}

    decides = {"keys": keys, "labels": list(labels), "size": size, "groups": list(groups or []), "files": files}
    return produce(data_volume(), KIND, "preprocess", parameters=decides, inputs={}, build=build).id


def model(
    train: str, validation: str, gallery: str, scale: NDArray[np.float32] | None = None, factory: str = "Flat"
) -> Model:
    """A model of these splits; by default it regards every pixel alike."""
    weights = np.ones(SIDE * SIDE, np.float32) if scale is None else scale

    def build(folder: Path) -> dict[str, Any]:
        (folder / "network.json").write_text(json.dumps({"pixels": len(weights)}))
        save_file({"scale": weights}, folder / "weights.safetensors")
        return {}

    inputs = {"train": train, "validation": validation}
    recipe = {"scale": weights.tolist()}
    network = produce(model_volume(), "network", "train", parameters=recipe, inputs=inputs, build=build).id
    return Model(network, index(embed(gallery, network, PARAMS["embed"]), {"factory": factory}), validation, train)


def verdict_on(test: str, made: Model, **change: Any) -> Analysis:
    """What analyse says of a model, with some parameters changed."""
    return analyse(test, made.network, made.index, made.validation, **judging(**{**PARAMS["gate"], **change}))


def serve(made: Model, *, with_seen: bool = True, **settings: Any) -> Path:
    """Point the deploy volume at an archive of this model, version `v1`."""
    mar = deploy_volume() / "model-store/m_v1.mar"
    mar.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(mar, "w") as archive:
        network, stored_index = model_volume() / "network" / made.network, model_volume() / "index" / made.index
        for folder in (network, stored_index):
            for path in folder.iterdir():
                if path.name != "manifest.json":
                    archive.write(path, path.name)
        side, channels = settings.get("image_size", SIDE), settings.get("channels", 1)
        archive.writestr(ONNX, pixels_as_onnx(network, stored_index, (side, side, channels)))
        if settings:
            archive.writestr("model.json", json.dumps(settings))
        if with_seen and (had := seen.seen_by(made.network, made.index)):
            archive.writestr(seen.FILE, seen.to_bytes(had))
    write_pointer(Pointer(name="m", version="v1", mar=mar.name, network=made.network, index=made.index))
    return mar
