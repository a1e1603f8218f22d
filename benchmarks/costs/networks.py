"""Measures decoding, training and embedding of images of one size, on a temporary data volume that VOLUMES names.

Times are those of one thread on the processor, so that other load matters less.
"""

import io
import os
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.many_images import write_classes
from contract.events import Epoch, parse
from pipeline.settings import Params
from steps.common.images.dataset import KIND, open_split
from steps.common.images.format import format_of
from steps.common.models.backbone import Backbone
from steps.common.models.embedding import embed_images, load_network
from steps.common.parameters import DEFAULT_BACKBONE, SMALL
from steps.common.volumes import data_volume
from steps.preprocess.render import of_file
from steps.preprocess.worker import piece
from steps.train.auto import chosen, numbers
from steps.train.fit import Job, fit

_CLASSES = 4
_GRAIN = 12  # grey levels
_QUALITY = 90
_DECODED = 2000  # files, so many at a time as preprocess takes:
_PIECE = 256
_EMBEDDED = {28: 4096, 224: 128}  # images


class _Epochs(io.StringIO):
    """Standard output that notes when each epoch ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[float] = []

    def write(self, text: str) -> int:
        if isinstance(parse(text), Epoch):
            self.ended.append(time.process_time())
        return len(text)


def write_photos(train: Path, count: int, side: int) -> None:
    """Write so many JPEG files in colour, soft blots with grain, to `<train>/<class>/`."""
    write_classes(train, _CLASSES, count // _CLASSES, side=side, colours=3)
    rng = np.random.default_rng(0)
    for path in sorted(train.rglob("*.png")):
        pixels = np.asarray(Image.open(path)).astype(np.int16) + rng.integers(-_GRAIN, _GRAIN, (side, side, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path.with_suffix(".jpg"), quality=_QUALITY)
        path.unlink()


def decoding(images: Path, side: int, channels: int) -> dict[str, Any]:
    """Bytes of a file, and files a second that one core decodes from memory, with all that preprocess keeps of them."""
    files = [path.read_bytes() for path in sorted(path for path in images.rglob("*") if path.is_file())[:_DECODED]]
    render = partial(of_file, size=side, channels=channels, max_pixels=1 << 20)
    began = time.process_time()
    for start in range(0, len(files), _PIECE):
        piece(files[start : start + _PIECE], render, (side, side, channels))
    spent = time.process_time() - began
    return {"file_bytes": sum(map(len, files)) // len(files), "decode_images_s": len(files) / spent}


def learning(params: Params, ids: dict[str, str], folder: Path) -> dict[str, Any]:
    """Images a second that one core trains on and embeds, and bytes of the network and of what is kept of an image.

    Args:
        params: The parameters. Images above 32 pixels get a backbone, whose weights are drawn.
        ids: The splits on the data volume.
        folder: Where the network is written.

    Returns:
        The four, by the names that `Kind` has for them.
    """
    splits = {name: open_split(data_volume() / KIND / ids[name]) for name in ("train", "validation")}
    image_format = format_of(ids["train"])
    side, weights = image_format.image_size, None
    parameters = params.train.model_copy(update={"epochs": 2, "backbone": SMALL})
    if side > 32:
        parameters = parameters.model_copy(update={"backbone": DEFAULT_BACKBONE, "backbone_frozen": 0.0})
        weights = folder.with_suffix(".safetensors")
        drawn = Backbone(image_format.channels, DEFAULT_BACKBONE, side, parameters.embedding_size)
        save_file(drawn.body.state_dict(), weights)
    choice = chosen(
        parameters, numbers(parameters, len(splits["train"]), image_format), splits["train"], splits["validation"]
    )
    folder.mkdir()
    torch.set_num_threads(1)
    told = _Epochs()
    with redirect_stdout(told):
        fit(
            Job(
                parameters,
                choice,
                splits["train"].path,
                splits["validation"].path,
                folder,
                folder.with_suffix(".pt"),
                weights,
            )
        )
    network = load_network(folder)
    images = splits["train"].images[: _EMBEDDED[side]]
    embed_images(network, images[:64], 64)  # to warm up
    began = time.process_time()
    embedded = embed_images(network, images, params.embed.batch_size)
    spent = time.process_time() - began
    return {
        "train_images_s": len(splits["train"]) / (told.ended[1] - told.ended[0]),
        "embed_images_s": len(images) / spent,
        "network_bytes": sum(value.numel() * value.element_size() for value in network.parameters()),
        "kept_bytes": embedded.features[0].nbytes,
    }


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
