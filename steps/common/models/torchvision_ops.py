"""Lets torchvision be imported beside a build of torch that its compiled operators do not fit.

timm imports torchvision, and torchvision's wheels on the package index are made for torch's CUDA build. Beside the CPU
build they cannot load their operators, and then the import fails, since it registers something for two of them. Nothing
here uses an operator of torchvision: it is enough that these two have a declaration. Called, they still fail, with
torchvision's own message.
"""

import importlib.util
from pathlib import Path

import torch

_NAMES = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_KEPT: list[torch.library.Library] = []  # a declaration lives as long as its library


def declare_missing() -> None:
    """Declare the operators, unless torchvision's own can be loaded."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or _KEPT:
        return
    for compiled in Path(found.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(compiled)  # type: ignore[no-untyped-call]
        except (OSError, ImportError):
            continue
        return
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _NAMES:
        library.define(f"{name}{_SCHEMA}")  # type: ignore[no-untyped-call]
    _KEPT.append(library)
