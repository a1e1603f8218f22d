"""Loads a trained network from its folder and embeds images with it, without pickle and without code from a volume.

A network's folder holds `weights.safetensors`, and in `network.json` its configuration. The network takes
uint8 [N, H, W, C] and normalises by itself; `steps/common/models/outputs.py` says what it gives.
"""

import json
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from steps.common.errors import StepError
from steps.common.models import kept
from steps.common.models.network import EmbeddingNetwork, Network
from steps.common.models.outputs import Outputs

_MOST = 64  # images that the network takes at once
_MOST_PIXELS = _MOST * 128 * 128  # of larger images fewer, for the sake of memory
_READ_BYTES = 16 << 20  # of larger images fewer are read at a time
_KEPT_AT_ONCE = 4096  # images: what is in memory at most, and what a killed run loses


class Images(Protocol):
    """Images uint8 [N, H, W, C] that are taken by slices: an array, or what decodes them one slice at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Any: ...


@dataclass(frozen=True)
class Chosen:
    """Some rows of images uint8 [N, H, W, C]."""

    images: Any
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice, /) -> Any:
        return self.images[self.rows[rows]]


@dataclass(frozen=True)
class Embedded:
    """What a network makes of images: embeddings float32 [N, D] and rooted features float16 [N, F], of length one.

    Of features half the precision is enough, and they are long.
    """

    embeddings: NDArray[np.float32]
    features: NDArray[np.float16]


def load_network(folder: Path) -> EmbeddingNetwork:
    """Build the network in a folder.

    Args:
        folder: Where its configuration and its weights are.

    Returns:
        The network in evaluation mode, on CUDA where there is one.

    Raises:
        StepError: The configuration or the weights are those of no network here.
    """
    try:
        with torch.device("meta"):  # takes no memory for sizes that the weights do not have
            network = _build(json.loads((folder / "network.json").read_text()))
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


def _build(config: Any) -> EmbeddingNetwork:
    if "backbone" in config:
        from steps.common.models.backbone import Backbone  # imported late, since timm takes a second

        return Backbone(**config)
    return Network(**config)


def embed_images(network: EmbeddingNetwork, images: Images, batch_size: int) -> Embedded:
    """Embed images, a batch at a time.

    The network always takes as many images at once, the last ones beside black ones: with another number the processor
    may add up in another order, and the last bits of an embedding would follow from what else is embedded.

    Args:
        network: What `load_network` gave.
        images: uint8 [N, H, W, C], at least one.
        batch_size: Images read at a time, at most; fewer large ones.

    Returns:
        What the network makes of them.
    """
    device = next(network.parameters()).device
    shape = np.shape(images[:1])[1:]
    together = at_once(shape[0] * shape[1])
    step = min(batch_size, max(_READ_BYTES // math.prod(shape), together))
    outputs = Outputs(network)
    # Intel's library of root and other functions sets itself up in its first call. Where that came from several threads
    # at once, some processes had roots that were off by 0.0005 in their first batch.
    torch.ones(1).sqrt()
    embeddings, features = [], []
    # A GPU would round what a convolution multiplies to 10 bits; the server does not.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for start in range(0, len(images), step):
            batch = np.asarray(images[start : start + step])
            for first in range(0, len(batch), together):
                part = batch[first : first + together]
                full = np.zeros((together, *part.shape[1:]), np.uint8)
                full[: len(part)] = part
                found = outputs(torch.from_numpy(full).to(device))
                embeddings.append(found[0][: len(part)].cpu())
                features.append(found[1][: len(part)].half().cpu())
    return Embedded(torch.cat(embeddings).numpy(), torch.cat(features).numpy())


def embed_kept(folder: Path, images: Images, keys: Sequence[str], batch_size: int) -> Iterator[Embedded]:
    """Embed images with a network, but for those that it has embedded before on such a processor.

    Some of those are embedded again, among others than before. If they are not the same to the bit, nothing that is
    kept is used: so the result does not depend on what is kept.

    Args:
        folder: The network's folder.
        images: uint8 [N, H, W, C], at least one.
        keys: The content key of each image. If there are not N, nothing is looked up and nothing kept.
        batch_size: Images read at a time.

    Yields:
        What the network makes of some thousand images, then of the next ones, in their order.
    """
    network = load_network(folder)
    every = np.arange(len(images))
    parts = [every[start : start + _KEPT_AT_ONCE] for start in range(0, len(images), _KEPT_AT_ONCE)]
    if len(keys) != len(images):
        yield from (embed_images(network, Chosen(images, rows), batch_size) for rows in parts)
        return
    shape = np.shape(images[:1])[1:]
    with kept.opened(kept.name(folder, shape, _processor()), keys) as vectors:
        sure = vectors.take(_half(np.flatnonzero(vectors.known), at_once(shape[0] * shape[1])))
        if sure and _embedded_anew(network, images, list(sure), batch_size) != sure:
            vectors.forget()
        for rows in parts:
            pairs = vectors.take(rows)
            if new := [int(row) for row in rows if row not in pairs]:
                made = _embedded_anew(network, images, new, batch_size)
                vectors.add(made)
                pairs |= made
            yield _from_bytes([pairs[int(row)] for row in rows])


def _embedded_anew(
    network: EmbeddingNetwork, images: Images, rows: Sequence[int], batch_size: int
) -> dict[int, kept.Pair]:
    embedded = embed_images(network, Chosen(images, np.array(rows, np.int64)), batch_size)
    found = zip(rows, embedded.embeddings, embedded.features, strict=True)
    return {row: (embedding.tobytes(), features.tobytes()) for row, embedding, features in found}


def _from_bytes(pairs: Sequence[kept.Pair]) -> Embedded:
    embeddings, features = (b"".join(parts) for parts in zip(*pairs, strict=True))
    return Embedded(
        np.frombuffer(embeddings, np.float32).reshape(len(pairs), -1),
        np.frombuffer(features, np.float16).reshape(len(pairs), -1),
    )


def _half(rows: NDArray[np.int64], together: int) -> NDArray[np.int64]:
    """Rows from all over, the last first, and at most half of them: not those that were embedded at once before."""
    count = min((len(rows) + 1) // 2, together // 2)
    return rows[np.linspace(len(rows) - 1, 0, count).astype(np.int64)] if count else rows[:0]


def at_once(pixels: int) -> int:
    """How many images a network takes at once: feature maps take some hundred bytes for each pixel.

    Args:
        pixels: Of one image.

    Returns:
        The number, at least 2.
    """
    return max(_MOST_PIXELS // max(pixels, _MOST_PIXELS // _MOST), 2)


def _processor() -> str:
    """What decides the last bits of an embedding beside the network."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
