"""Runs a pipeline with `kfp.local`, in subprocesses, with workarounds for kfp 2.17.0."""

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
from kfp.local.orchestrator import enhanced_dag_orchestrator as orchestrator
from kfp.local.orchestrator.enhanced_dag_orchestrator import ConditionEvaluator
from kfp.local.status import Status

from contract.paths import ROOT


def run_in_subprocesses(pipeline: Callable[..., Any], arguments: dict[str, Any], output: TextIO) -> None:
    """Run the pipeline's steps in processes of this interpreter.

    Args:
        pipeline: The pipeline, as `build_pipeline` returns it.
        arguments: Its arguments.
        output: Where the output of the steps and of kfp goes.

    Raises:
        RuntimeError: A step failed.
    """
    with tempfile.TemporaryDirectory() as root, _this_interpreter(root):
        run_with(local.SubprocessRunner(use_venv=False), Path(root), pipeline, arguments, output)


def run_with(runner: Any, root: Path, pipeline: Callable[..., Any], arguments: dict[str, Any], output: TextIO) -> None:
    """Run the pipeline with one of kfp's runners.

    Args:
        runner: The runner, of `kfp.local`.
        root: A folder for kfp's files.
        pipeline: The pipeline, as `build_pipeline` returns it.
        arguments: Its arguments.
        output: Where the output of the steps and of kfp goes.

    Raises:
        RuntimeError: A step failed.
    """
    workspace = root / "workspace"  # another folder than `root`, since kfp mounts both
    workspace.mkdir()
    with _quiet(output), _named_outputs_in_conditions(), _one_by_one():
        local.init(runner, pipeline_root=str(root), workspace_root=str(workspace), raise_on_error=True)
        pipeline(**arguments)


@contextlib.contextmanager
def _quiet(output: TextIO) -> Iterator[None]:
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp warns of every image without 'python' in its name
        yield


@contextlib.contextmanager
def _this_interpreter(temporary: str) -> Iterator[None]:
    """Set PATH, PYTHONPATH and TMPDIR for the steps: this interpreter, this repository, one temporary folder.

    kfp writes `sys.executable` unquoted into a shell script, where a space in the path is an error. So the steps find
    the interpreter by its name, on PATH.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {"PATH": path, "PYTHONPATH": str(ROOT), "TMPDIR": temporary}
    with mock.patch.dict(os.environ, environment), mock.patch.object(sys, "executable", "python3"):
        yield


@contextlib.contextmanager
def _named_outputs_in_conditions() -> Iterator[None]:
    """Let `dsl.If` use a step's named outputs: `kfp.local` resolves only an unnamed output."""
    original = ConditionEvaluator._resolve_pipeline_channel

    def resolve(reference: str, store: IOStore) -> Any:
        words = reference.removeprefix("pipelinechannel--").split("-")
        for cut in range(len(words) - 1, 0, -1):
            with contextlib.suppress(ValueError):
                return store.get_task_output("-".join(words[:cut]), "-".join(words[cut:]))
        return original(reference, store)

    with mock.patch.object(ConditionEvaluator, "_resolve_pipeline_channel", staticmethod(resolve)):
        yield


@contextlib.contextmanager
def _one_by_one() -> Iterator[None]:
    """Run the tasks of `dsl.ParallelFor` one after the other, up to the first that fails.

    kfp runs two at a time, in threads that mix their output, and all of them after a failure. Here each task uses all
    cores, so it gains nothing by that.
    """

    class OneByOne(orchestrator.ParallelExecutor):  # type: ignore[misc]
        def execute_parallel_tasks(self, tasks: list[Any], **how: Any) -> tuple[dict[str, Any], Status]:
            how.pop("parallelism_limit", None)
            found: dict[str, Any] = {}
            for name, spec in tasks:
                outputs, status = orchestrator.execute_task(task_name=name, task_spec=spec, **how)
                if status == Status.FAILURE:
                    how["fail_stack"].append(name)
                    return {}, status
                found[name] = outputs
                for key, value in outputs.items():
                    how["io_store"].put_task_output(name, key, value)
            return found, Status.SUCCESS

    with mock.patch.object(orchestrator, "ParallelExecutor", OneByOne):
        yield
