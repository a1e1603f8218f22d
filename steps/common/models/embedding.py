"""Loads a trained network from its folder and embeds images with it, without pickle and without code from a volume.

A network's folder holds `weights.safetensors`, and in `network.json` the arguments of `Network`. The network takes
uint8 [N, H, W, C] and returns float32 [N, D] of length one: it normalises by itself.
"""

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from steps.common.errors import StepError
from steps.common.models.network import Network


class Images(Protocol):
    """Images uint8 [N, H, W, C] that are taken by slices: an array, or what decodes them one slice at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


def load_network(folder: Path) -> torch.nn.Module:
    """Build the network in a folder.

    Args:
        folder: Where its configuration and its weights are.

    Returns:
        The network in evaluation mode, on CUDA where there is one.

    Raises:
        StepError: The configuration or the weights are not those of `Network`.
    """
    try:
        with torch.device("meta"):  # takes no memory for sizes that the weights do not have
            network: torch.nn.Module = Network(**json.loads((folder / "network.json").read_text()))
        kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
        weights = load_file(folder / "weights.safetensors")
        weights = {name: tensor.to(kinds.get(name, tensor.dtype)) for name, tensor in weights.items()}
        network.load_state_dict(weights, assign=True)
    except (TypeError, ValueError, IndexError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise StepError(
            f"{folder} holds no network of steps/common/models/network.py ({reason}): delete it and run again"
        ) from error
    return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")


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
