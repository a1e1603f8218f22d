"""Exports a network to ONNX, the form in which it is served: reads a network's folder, writes `network.onnx`."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import onnxscript  # noqa: F401 - torch.onnx exports with it, so that its version decides too
import torch

from steps.common.embedding import load_network
from steps.common.errors import StepError

ONNX = "network.onnx"


def export_network(network: Path, target: Path, *, image_size: int, channels: int) -> None:
    """Write the network in this folder as ONNX: `images` uint8 [N, H, W, C] in, `embeddings` float32 [N, D] out.

    Any N, one size. Whether it answers as the network does is for the golden predictions to say. Raises StepError if
    the network uses what ONNX lacks.
    """
    module = load_network(network).cpu()
    example = torch.zeros(2, image_size, image_size, channels, dtype=torch.uint8)
    # It tells, on standard output and in warnings about itself, what matters to its authors.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stdout(io.StringIO()):
            program = torch.onnx.export(
                module,
                (example,),
                input_names=["images"],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise StepError(
            f"the network of {network} cannot be exported to ONNX ({reason}): change steps/train/network.py to what "
            "torch.onnx.export supports"
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    for node in program.model.graph:
        node.metadata_props.clear()  # paths of this machine
    program.save(target, external_data=False)
