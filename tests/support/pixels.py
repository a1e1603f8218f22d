"""A network that compares pixels and needs no training, beside the project's own: as a module, and as ONNX."""

from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from safetensors.numpy import load_file

from steps.common.models.contents import FEATURES_INDEX
from steps.common.models.features_index import load

_FLOOR = 1e-3  # so that a black image has a length


class Pixels(torch.nn.Module):
    """Scales each pixel, and gives the whole a length of one; `pixels` is their number."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(pixels))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() * self.scale + _FLOOR

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.embed(self.features(images)))


def nodes_of_distance(known: NDArray[np.float32]) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from `features` to `features_distance`, to the nearest column of a matrix [F, M]; and their constants."""
    make, constant = onnx.helper.make_node, onnx.numpy_helper.from_array
    nodes = [
        make("MatMul", ["features", "known"], ["similarities"]),
        make("ReduceMax", ["similarities", "over_all"], ["similarity"], keepdims=0),
        make("Sub", ["one", "similarity"], ["features_distance"]),
    ]
    values = {"known": known.astype(np.float32), "over_all": np.array([1]), "one": np.float32([1])}
    return nodes, [constant(value, name) for name, value in values.items()]


def pixels_as_onnx(network: Path, index: Path, shape: tuple[int, int, int]) -> bytes:
    """The ONNX of a stored network of pixels with its index of features, for images of this shape."""
    known = load(index / FEATURES_INDEX)
    more, constants = nodes_of_distance(known.axes @ known.known)
    scale: NDArray[np.float32] = load_file(network / "weights.safetensors")["scale"]
    make = onnx.helper.make_node
    value, floor = onnx.helper.make_tensor_value_info, np.full(1, _FLOOR, np.float32)
    nodes = [
        make("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        make("Flatten", ["floats"], ["flat"]),
        make("Mul", ["flat", "scale"], ["scaled"]),
        make("Add", ["scaled", "floor"], ["raised"]),
        make("LpNormalization", ["raised"], ["embeddings"], axis=1, p=2),
        *(make(kind, ["raised"], [name]) for kind, name in (("Sign", "signs"), ("Abs", "lengths"))),
        make("Sqrt", ["lengths"], ["roots"]),
        make("Mul", ["signs", "roots"], ["rooted"]),
        make("LpNormalization", ["rooted"], ["features"], axis=1, p=2),
        *more,
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "pixels",
        [value("images", TensorProto.UINT8, ["n", *shape])],
        [
            value("embeddings", TensorProto.FLOAT, ["n", scale.size]),
            value("features_distance", TensorProto.FLOAT, ["n"]),
        ],
        [*constants, onnx.numpy_helper.from_array(scale, "scale"), onnx.numpy_helper.from_array(floor, "floor")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())
