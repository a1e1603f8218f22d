"""Exports a network to ONNX, as which it is served: reads a network's folder, writes `network.onnx`."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import onnxscript  # noqa: F401 - torch.onnx exports with it, so that its version decides too
import torch

from steps.common.errors import StepError
from steps.common.models.embedding import load_network
from steps.common.models.features_index import FeaturesIndex
from steps.common.models.outputs import Served


def export_network(network: Path, index: FeaturesIndex, target: Path, *, image_size: int, channels: int) -> int:
    """Write a network as ONNX, for any N: `images` uint8 [N, H, W, C] in, `embeddings` and `features_distance` out.

    They are float32 [N, D] and [N]. That the file answers as the network does, the golden predictions show.

    Args:
        network: the folder of the network.
        index: the features that are known.
        target: the file to write.
        image_size: height and width, in pixels.
        channels: 1 for grey images, 3 for colour.

    Returns:
        The length D of an embedding.

    Raises:
        StepError: the folder holds no network; or the network uses an operation that ONNX lacks.
        RuntimeError: the exporter gave nothing.
    """
    matrices = (torch.from_numpy(matrix) for matrix in (index.axes, index.known))
    module = Served(load_network(network).cpu(), *matrices, is_signed=bool(index.is_signed)).eval()
    example = torch.zeros(2, image_size, image_size, channels, dtype=torch.uint8)
    # The exporter prints to standard output, and warns of its own deprecations.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                module,
                (example,),
                input_names=["images"],
                output_names=["embeddings", "features_distance"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise StepError(
            f"the network cannot be exported to ONNX ({reason}): change steps/common/models/network.py "
            "to what torch.onnx.export supports"
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    for node in program.model.graph:
        node.metadata_props.clear()  # paths of this machine
    program.save(target, external_data=False)
    with torch.inference_mode():
        return int(module(example)[0].shape[1])
