"""What a training runs on, which decides the last digits of its weights and not its recipe; reads `/proc/cpuinfo`."""

import platform
from pathlib import Path

import torch
from torch import nn


def chosen_device(rank: int = 0) -> torch.device:
    """The GPU of this number if there are any, else the processor."""
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether it computes with bfloat16 by itself, so that training does."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def trains_in_bfloat16(network: nn.Module, device: torch.device) -> bool:
    """Whether a network trains with bfloat16: if the device computes with it, and it gains by it."""
    # The gradients of depthwise convolutions take a processor longer in bfloat16: 38 images/s against 57 in float32.
    is_depthwise = any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in network.modules())
    return has_bfloat16(device) and not (device.type == "cpu" and is_depthwise)


def described(network: nn.Module) -> dict[str, str | int]:
    """Device, processor and its instructions, threads, version of torch, and precision of a network's training."""
    device = chosen_device()
    return {
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "precision": "bfloat16" if trains_in_bfloat16(network, device) else "float32",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
