"""Runs a pipeline by `kfp.local`, in subprocesses by default, mending what kfp 2.17.0 does not do there."""

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO
from unittest import mock

from kfp import local
from kfp.local.io import IOStore
from kfp.local.orchestrator.enhanced_dag_orchestrator import ConditionEvaluator

from contract.paths import ROOT


def run_in_subprocesses(pipeline: Callable[..., Any], arguments: dict[str, Any], output: TextIO) -> None:
    """Run the pipeline's steps with this interpreter; what they and kfp print goes to `output`.

    Raises RuntimeError as kfp does if a step fails.
    """
    with tempfile.TemporaryDirectory() as root, _this_interpreter(root):
        run_with(local.SubprocessRunner(use_venv=False), Path(root), pipeline, arguments, output)


def run_with(runner: Any, root: Path, pipeline: Callable[..., Any], arguments: dict[str, Any], output: TextIO) -> None:
    """Run the pipeline with one of kfp's runners, its own files in the folder `root`."""
    workspace = root / "workspace"  # not the same folder: kfp mounts each, by its path on this machine
    workspace.mkdir()
    with _quiet(output), _named_outputs_in_conditions():
        local.init(runner, pipeline_root=str(root), workspace_root=str(workspace), raise_on_error=True)
        pipeline(**arguments)


@contextlib.contextmanager
def _quiet(output: TextIO) -> Iterator[None]:
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of images without 'python' in their names: none is run here
        yield


@contextlib.contextmanager
def _this_interpreter(temporary: str) -> Iterator[None]:
    """Let the steps find this interpreter and this repository, and leave all temporary files in one place.

    kfp writes `sys.executable` unquoted into a shell script, which a space in the project's path would break, so the
    steps find it by its name alone.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "TMPDIR": temporary}
    with mock.patch.dict(os.environ, environment), mock.patch.object(sys, "executable", "python3"):
        yield


@contextlib.contextmanager
def _named_outputs_in_conditions() -> Iterator[None]:
    """Let `dsl.If` ask for an output that has a name: kfp.local itself only finds a step's unnamed one."""
    original = ConditionEvaluator._resolve_pipeline_channel

    def resolve(reference: str, store: IOStore) -> Any:
        words = reference.removeprefix("pipelinechannel--").split("-")
        for cut in range(len(words) - 1, 0, -1):
            with contextlib.suppress(ValueError):
                return store.get_task_output("-".join(words[:cut]), "-".join(words[cut:]))
        return original(reference, store)

    with mock.patch.object(ConditionEvaluator, "_resolve_pipeline_channel", staticmethod(resolve)):
        yield
