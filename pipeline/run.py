"""Runs the pipeline on this machine: reads the settings, writes the volumes, a log, and the closing lines."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console

from pipeline.kfp_local import run_in_subprocesses
from pipeline.pipeline import arguments, build_pipeline
from pipeline.screen import EventLog, Screen
from pipeline.settings import Params, Project
from steps.common.digest import STEPS, step_digest
from steps.common.pointer import MODEL_STORE, read_pointer
from steps.common.volumes import data_volume, deploy_volume, model_volume

_LOGS_KEPT = 20


class RunError(Exception):
    """The pipeline could not be run to its end; the message says where, why and what to do."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the word that its last line begins with, and the reason."""

    word: str
    reason: str


def run(project: Project, params: Params, volumes: Path, console: Console) -> Outcome:
    """Run the seven steps in subprocesses; RunError if one fails."""
    log = _prepare(volumes)
    images = {step: f"{project.name}-{step}:{step_digest(step)}" for step in STEPS}
    with log.open("w") as file, Screen(console) as screen:
        output = EventLog(file, screen.on_event)
        try:
            run_in_subprocesses(build_pipeline(project, images), arguments(project, params), output)
        except Exception as error:
            if screen.step is None:
                raise
            told = screen.failure or f"it ended without a word; the end of {log} may say why"
            raise RunError(f"{screen.step} failed: {told}\nlog: {log}") from error
    return _close(screen, console, log)


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
        raise RunError(
            f"{error.filename} cannot be written ({error.strerror}): make it writable, or choose another folder with "
            "VOLUMES=/elsewhere"
        ) from error
    return log


def _close(screen: Screen, console: Console, log: Path) -> Outcome:
    verdict = screen.finished["analyse"]["verdict"]
    console.print(screen.table())
    lines = [
        ("accuracy", f"{verdict['accuracy']:.4f} on the test split"),
        ("worst class", f"{verdict['worst_label']}, {verdict['worst_accuracy']:.4f}"),
    ]
    served = read_pointer()
    if served:
        asked = served["prediction"]
        answer = asked["answer"]
        lines += [
            ("served model", str(deploy_volume() / MODEL_STORE / served["mar"])),
            (
                "prediction",
                f"{answer['label']} for a test image of {asked['expected']}, distance {answer['distance']:.4f}",
            ),
        ]
    lines += [("report", screen.finished["analyse"]["report"]), ("log", str(log))]
    console.print()
    for name, text in lines:
        console.print(f"{name:<13} {text}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    deployed = screen.finished.get("deploy")
    if deployed is None:
        still = f"; {served['version']} is still served" if served else "; nothing is served"
        return Outcome("REJECTED", verdict["reason"] + still)
    word = "UNCHANGED" if deployed["unchanged"] else "DEPLOYED"
    return Outcome(word, f"{deployed['version']}: {verdict['reason']}")
