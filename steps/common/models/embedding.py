"""Loads a trained network from its folder and embeds images with it, without pickle and for any architecture.

A network's folder holds `network.py`, whose `load(folder)` returns the module, `weights.safetensors` and
`network.json`. The module takes uint8 [N, H, W, C] and returns float32 [N, D] of length one: it normalises by itself.
"""

from pathlib import Path
from runpy import run_path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Images(Protocol):
    """Images uint8 [N, H, W, C] that are taken by slices: an array, or what decodes them one slice at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


def load_network(folder: Path) -> torch.nn.Module:
    """The network in this folder, in evaluation mode, on CUDA where there is one."""
    network: torch.nn.Module = run_path(str(folder / "network.py"))["load"](folder)  # which leaves no byte code there
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def embed_images(network: torch.nn.Module, images: Images, batch_size: int) -> NDArray[np.float32]:
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
