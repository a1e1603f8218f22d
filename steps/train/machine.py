"""What a training runs on, which decides the last digits of its weights and not its recipe; reads `/proc/cpuinfo`."""

import platform
from pathlib import Path

import torch


def chosen_device(rank: int = 0) -> torch.device:
    """The GPU of this number if there are any, else the processor."""
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether it computes with bfloat16 by itself, so that training does."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def described() -> dict[str, str | int]:
    """Device, processor and its instructions, threads, version of torch, and the precision of training."""
    device = chosen_device()
    return {
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "precision": "bfloat16" if has_bfloat16(device) else "float32",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
