"""A network as it is served: reads and writes no files, and runs ONNX, which is data."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from steps.analyse.evaluate import Embed
from steps.common.models.embedding import Images, at_once


def served_network(model: bytes, batch_size: int) -> Embed:
    """Load a network for the CPU; ValueError if it is none.

    Args:
        model: The ONNX file, which holds its weights itself.
        batch_size: Images embedded at a time, at most: of large ones fewer, for the sake of memory.

    Returns:
        The network. That of an older archive gives no distances of features.

    Raises:
        ValueError: It is no network with one input, and one or two outputs.
    """
    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        [taken], [_, *of_features] = session.get_inputs(), session.get_outputs()
        if len(of_features) > 1:
            raise ValueError(f"it has {len(of_features) + 1} outputs")
    except Exception as error:  # ONNX Runtime's own errors share no class
        raise ValueError(f"its ONNX is no network: {error}") from error
    return partial(_embed, session, taken.name, batch_size)


def _embed(
    session: onnxruntime.InferenceSession, taken: str, batch_size: int, images: Images
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float64] | None]]:
    _, height, width, _ = np.shape(images[:1])
    step = min(batch_size, at_once(height * width))
    for start in range(0, len(images), step):
        embeddings, *distances = session.run(None, {taken: np.ascontiguousarray(images[start : start + step])})
        yield embeddings, distances[0].astype(float) if distances else None
