"""TORCH: what may be asked for, what auto means, and that the choice is kept."""

import os

import pytest

from install import torch
from tests.support.install_project import Project

NOTHING: list[list[str]] = []


def test_the_torch_that_was_chosen_is_kept(project: Project) -> None:
    project.python("python3")
    project.make("TORCH=cuda")
    assert (project.stamp["choice"], project.stamp["torch"]) == ("cuda", "2.13.0")
    project.calls()
    assert project.make().stderr == ""
    assert project.make(RUNNER="docker", TORCH="cpu").stderr == "", "which is about the images"
    assert project.stamp["choice"] == "cuda"
    assert project.make(TORCH="cpu").returncode == 0
    assert (project.stamp["choice"], project.stamp["torch"]) == ("cpu", "2.13.0+cpu")
    removed = project.calls(of="uninstall")[0]
    assert {"torch", "nvidia-cublas", "triton"} <= set(removed)
    assert not {"numpy", "filelock", "jinja2"} & set(removed), "which the other packages need"


def test_cuda_in_place_of_cpu_is_installed_anew(project: Project) -> None:
    """Pip would take 2.13.0+cpu for 2.13.0."""
    project.python("python3")
    project.make()
    project.calls()
    project.make("TORCH=cuda")
    assert project.calls(of="uninstall") == [["-m", "pip", "uninstall", "--yes", "torch"]]
    assert project.stamp["torch"] == "2.13.0"


@pytest.mark.parametrize(("status", "build"), [(0, "cuda"), (9, "cpu")])
def test_auto_takes_cuda_where_the_driver_answers(
    project: Project, monkeypatch: pytest.MonkeyPatch, status: int, build: str
) -> None:
    exists = os.path.exists
    monkeypatch.setattr(torch.sys, "platform", "linux")
    drivers = ("/proc", "/usr/lib/wsl")
    monkeypatch.setattr(torch.os.path, "exists", lambda path: not path.startswith(drivers) and exists(path))
    monkeypatch.setenv("PATH", str(project.bin))
    assert torch.build("auto") == "cpu"
    command = project.bin / "nvidia-smi"
    command.write_text(f"#!/bin/sh\nexit {status}\n")
    command.chmod(0o755)
    assert torch.build("auto") == build
    monkeypatch.setattr(torch.os.path, "exists", lambda path: path == "/proc/driver/nvidia/version")
    assert torch.build("auto") == "cuda"
    monkeypatch.setattr(torch.sys, "platform", "darwin")
    assert torch.build("auto") == "cpu"


def test_cuda_is_refused_where_torch_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.sys, "platform", "darwin")
    with pytest.raises(torch.InstallError, match="TORCH: is 'cuda', and torch has a CUDA build for Linux alone"):
        torch.check("cuda")
