"""A network as it is served: reads and writes no files, and runs ONNX, which is data."""

from functools import partial

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from steps.analyse.evaluate import Embed
from steps.common.models.embedding import Images


def served_network(model: bytes, batch_size: int) -> Embed:
    """Load a network for the CPU; ValueError if it is none.

    Args:
        model: The ONNX file, which holds its weights itself.
        batch_size: Images embedded at a time.

    Returns:
        The network.

    Raises:
        ValueError: It is no network with one input and one output.
    """
    try:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        [taken], [_] = session.get_inputs(), session.get_outputs()
    except Exception as error:  # ONNX Runtime's own errors share no class
        raise ValueError(f"its ONNX is no network: {error}") from error
    return partial(_embed, session, taken.name, batch_size)


def _embed(session: onnxruntime.InferenceSession, taken: str, batch_size: int, images: Images) -> NDArray[np.float32]:
    starts = range(0, len(images), batch_size)
    batches = (np.ascontiguousarray(images[start : start + batch_size]) for start in starts)
    embeddings: NDArray[np.float32] = np.concatenate([session.run(None, {taken: batch})[0] for batch in batches])
    return embeddings
