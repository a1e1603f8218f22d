"""Loads a trained network from its folder and embeds images with it, without pickle and for any architecture.

A network's folder holds `network.py`, whose `load(folder)` returns the module, `weights.safetensors` and
`network.json`. The module takes uint8 [N, H, W, C] and returns float32 [N, D] of length one: it normalises by itself.
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
    """Embed images, a batch at a time.

    Args:
        network: What `load_network` gave.
        images: uint8 [N, H, W, C].
        batch_size: Images at a time.

    Returns:
        float32 [N, D], each of length one.
    """
    device = next(network.parameters()).device
    with torch.inference_mode():
        batches = (torch.from_numpy(np.array(images[i : i + batch_size])) for i in range(0, len(images), batch_size))
        return torch.cat([network(batch.to(device)).cpu() for batch in batches]).numpy()
