"""Compares the file formats in which a network can be served: load time, and inference time in one thread."""

import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from steps.common.models.embedding import embed_images, load_network
from steps.common.models.features_index import CORESET, build
from steps.deploy.export import export_network

BATCHES = (1, 8)  # one client, and the largest batch that is served
_ROUNDS = 7
_REPEATS = 40

Format = tuple[str, Callable[[], Callable[[torch.Tensor], Any]]]


def measure_formats(network: Path, image_size: int, channels: int) -> list[tuple[str, str]]:
    """Measure each format.

    Args:
        network: The folder of a stored network.
        image_size: Height and width of an image in pixels.
        channels: 1 for grey images, 3 for RGB.

    Returns:
        A row for each format: its name, then seconds to load and microseconds per image for each size in BATCHES.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
            for name, load in _formats(network, Path(folder), image_size, channels):
                began = time.perf_counter()
                run = load()
                run(torch.zeros(1, image_size, image_size, channels, dtype=torch.uint8))
                loaded = time.perf_counter() - began
                cost = [_microseconds(run, size, image_size, channels) for size in BATCHES]
                measured = f"  {name}: load s, us/image at {BATCHES[0]}, at {BATCHES[1]}"
                rows.append((measured, f"{loaded:.2f} {cost[0]:>6.0f} {cost[1]:>6.0f}"))
    finally:
        torch.set_num_threads(threads)
    return rows


def _formats(network: Path, folder: Path, image_size: int, channels: int) -> Iterator[Format]:
    module = load_network(network).cpu()
    example = torch.zeros(BATCHES[-1], image_size, image_size, channels, dtype=torch.uint8)
    yield "state_dict", lambda: load_network(network).cpu()
    script(module, example, folder / "frozen.pt")
    yield "TorchScript, frozen", lambda: torch.jit.load(folder / "frozen.pt")  # type: ignore[no-untyped-call]
    exported = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},))
    torch.export.save(exported, folder / "network.pt2")
    yield "torch.export", lambda: torch.export.load(folder / "network.pt2").module()
    if shutil.which("g++"):
        package = torch._inductor.aoti_compile_and_package(exported, package_path=str(folder / "aoti.pt2"))
        yield "AOTInductor", lambda: torch._inductor.aoti_load_package(package)
    images = np.random.default_rng(0).integers(0, 256, (CORESET, image_size, image_size, channels), np.uint8)
    features = build(embed_images(module, images, len(images)).features)
    export_network(network, features, folder / "network.onnx", image_size=image_size, channels=channels)
    yield "ONNX Runtime", lambda: _onnx(folder / "network.onnx")


def script(module: torch.nn.Module, example: torch.Tensor, path: Path) -> None:
    """Save a network as frozen TorchScript, traced with a batch of images uint8 [N, height, width, channels]."""
    torch.jit.freeze(torch.jit.trace(module, example)).save(path)  # type: ignore[no-untyped-call]


def _onnx(path: Path) -> Callable[[torch.Tensor], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options)
    return lambda images: session.run(None, {"images": images.numpy()})


def _microseconds(run: Callable[[torch.Tensor], Any], size: int, image_size: int, channels: int) -> float:
    """Microseconds per image: the fastest of some rounds, since other load only slows them down."""
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (size, image_size, image_size, channels), np.uint8))
    best = float("inf")
    with torch.inference_mode():
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            for _ in range(_REPEATS):
                run(images)
            best = min(best, time.perf_counter() - began)
    return best / _REPEATS / size * 1e6
