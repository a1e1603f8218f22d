"""Runs the pipeline on this machine: reads the settings, writes the volumes, a log, and the closing lines."""

import errno
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from contract.events import Verdict
from pipeline.images.build import build_images, references
from pipeline.local.display import EventLog, Screen
from pipeline.local.subprocesses import run_in_subprocesses
from pipeline.outcome import Outcome, RunError
from pipeline.pipeline import arguments, build_pipeline
from pipeline.settings import Params, Project
from steps.common.pointer import MODEL_STORE, read_pointer
from steps.common.volumes import data_volume, deploy_volume, model_volume
from steps.registry import STEP_NAMES, STEPS

_LOGS_KEPT = 20


def run(project: Project, params: Params, volumes: Path, console: Console, *, docker: bool = False) -> Outcome:
    """Run the seven steps in subprocesses, or in containers of their images; RunError if one fails."""
    if docker:
        build_images(project, STEP_NAMES, console)
    log = _prepare(volumes)
    execute = _in_containers(project, params) if docker else run_in_subprocesses
    reason: Exception | None = None
    with _disk_full_told(log), log.open("w") as file, Screen(console) as screen:
        output = EventLog(file, screen.on_event)
        try:
            execute(build_pipeline(project, references(project)), arguments(project, params), output)
            failed = screen.step  # whose end nobody saw
        except Exception as error:
            if screen.step is None and not docker:
                raise
            traceback.print_exc(file=output)
            failed, reason = screen.step or "starting a container", error
    if failed:
        told = screen.failure or f"it ended without a word; the end of {log} may say why"
        raise RunError(f"{failed} failed: {told}\nlog: {log}") from reason
    return _close(screen, console, log)


@contextmanager
def _disk_full_told(log: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _unwritable(error, log, "free some space") from error


def _unwritable(error: OSError, path: Path, remedy: str) -> RunError:
    return RunError(
        f"{error.filename or path} cannot be written ({error.strerror}): {remedy}, or choose another folder with "
        "VOLUMES=/elsewhere"
    )


def _in_containers(project: Project, params: Params) -> Callable[..., None]:
    from pipeline.local.containers import give_to_containers, run_in_containers

    volumes = [data_volume(), model_volume(), deploy_volume()]
    give_to_containers(volumes)
    images = references(project)
    online = {step.name for step in STEPS if step.needs_network(params)}
    return partial(run_in_containers, volumes=volumes, steps={images[step.name]: step for step in STEPS}, online=online)


def _prepare(volumes: Path) -> Path:
    """Make the volumes known to the steps and give the log file's path, older logs removed."""
    os.environ["VOLUMES"] = str(volumes.absolute())
    logs = volumes.absolute() / "logs"
    try:
        for folder in (data_volume(), model_volume(), deploy_volume(), logs):
            folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(logs.glob("run-*.log"))[: 1 - _LOGS_KEPT]:
            old.unlink(missing_ok=True)
        log = logs / f"run-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        log.touch()
    except OSError as error:
        raise _unwritable(error, logs, "make it writable") from error
    return log


def verdict_lines(verdict: Verdict) -> list[tuple[str, str]]:
    """What the closing lines of a run say of a verdict, by their names."""
    interval = " ({:.4f} to {:.4f})".format(*verdict.interval) if verdict.interval else ""
    worst = f"{verdict.worst_label}, {verdict.worst_accuracy:.4f}" if verdict.worst_label is not None else "none tested"
    lines = [("accuracy", f"{verdict.accuracy:.4f}{interval} on the test split"), ("worst class", worst)]
    for name, passed in (("rules kept", True), ("rules broken", False)):
        if rules := ", ".join(rule for rule, kept in verdict.rules.items() if kept is passed):
            lines.append((name, rules))
    if verdict.unknown:
        lines.append(("unknown", verdict.unknown))
    return lines


def _close(screen: Screen, console: Console, log: Path) -> Outcome:
    analysis = screen.finished["analyse"]
    verdict = analysis.verdict
    if verdict is None:
        raise RunError(f"analyse did not say its verdict: {log} says what it printed")
    console.print(screen.table())
    lines = verdict_lines(verdict)
    served = read_pointer()
    if served:
        lines.append(("served model", str(deploy_volume() / MODEL_STORE / served["mar"])))
    if served and (asked := served.get("prediction")):  # a pointer set by hand may not know one
        label, distance = asked["answer"]["label"], asked["answer"]["distance"]
        lines.append(("prediction", f"{label} for a test image of {asked['expected']}, distance {distance:.4f}"))
    report = model_volume().joinpath(*Path(analysis.report).parts[-3:])  # as seen from here
    lines += [("report", str(report)), ("log", str(log))]
    console.print()
    for name, text in lines:
        console.print(f"{name:<13} {text}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    deployed = screen.finished.get("deploy")
    if deployed is None:
        still = f"; {served['version']} is still served" if served else "; nothing is served"
        return Outcome("REJECTED", verdict.reason + still)
    word = "UNCHANGED" if deployed.unchanged else "DEPLOYED"
    return Outcome(word, f"{deployed.version}: {verdict.reason}")
