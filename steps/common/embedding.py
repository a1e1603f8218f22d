"""Loads a trained network from its folder, and embeds images with it: no pickle, no knowledge of its architecture.

A network's folder holds `network.py`, whose `load(folder)` gives the module; `weights.safetensors`; `network.json`.
The module takes uint8 [N, H, W, C] and gives float32 [N, D] of length one: normalisation is part of it.
"""

from pathlib import Path
from runpy import run_path

import numpy as np
import torch
from numpy.typing import NDArray

FILES = ("network.py", "weights.safetensors", "network.json")


def load_network(folder: Path) -> torch.nn.Module:
    """The network in this folder, in evaluation mode, on CUDA where there is one."""
    network: torch.nn.Module = run_path(str(folder / "network.py"))["load"](folder)  # which leaves no byte code there
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def embed_images(network: torch.nn.Module, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """Embeddings float32 [N, D] of images uint8 [N, H, W, C], a batch at a time."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        batches = (torch.from_numpy(np.array(images[i : i + batch_size])) for i in range(0, len(images), batch_size))
        return torch.cat([network(batch.to(device)).cpu() for batch in batches]).numpy()
