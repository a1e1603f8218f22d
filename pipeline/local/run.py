"""Runs the pipeline on this machine: reads the settings, writes the volumes and a log, and prints the closing lines."""

import errno
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from contract.events import Verdict
from contract.pointer import MODEL_STORE, Pointer
from pipeline.images.build import build_images, references
from pipeline.images.platforms import here
from pipeline.local.display import EventLog, RunDisplay
from pipeline.local.own_images import copy_images
from pipeline.local.subprocesses import run_in_subprocesses
from pipeline.outcome import Outcome, RunError
from pipeline.pipeline import arguments, build_pipeline
from pipeline.settings import Params, Project
from steps.common.pointer import read_pointer
from steps.common.volumes import LOGS, data_volume, deploy_volume, model_volume
from steps.registry import STEP_NAMES, STEPS

_LOGS_KEPT = 20
_ADVICE = 3  # sentences in the closing lines


@dataclass(frozen=True)
class RunResult:
    """The result of a run on this machine: its outcome, and the verdict of analyse."""

    outcome: Outcome
    verdict: Verdict


def run(
    project: Project,
    params: Params,
    volumes: Path,
    console: Console,
    *,
    docker: bool = False,
    images: Path | None = None,
) -> RunResult:
    """Run the pipeline, and print its progress and the closing lines.

    Args:
        project: Who the project is.
        params: How the model is trained and judged.
        volumes: The folder of the volumes; made if it is not there.
        console: Where progress and the closing lines are printed.
        docker: Run the steps in containers of their images, built first where they are missing, and not as processes.
        images: A folder of own images: they are copied to the data volume, and the source of this run is `folder`.

    Returns:
        The result. A model that the gate rejects is a result, too.

    Raises:
        RunError: A step failed, or the volumes cannot be written.
        DockerMissingError: Docker is needed, and is missing.
        DockerError: An image could not be built.
        SettingsError: The containers' user cannot write the volumes.
        InputError: The folder of images cannot be used.
    """
    if docker:
        build_images(project, STEP_NAMES, console)
    log = _prepare_volumes(volumes)
    if images:
        for line in copy_images(images, params.gate.allow_lost_classes):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
        params = params.model_copy(update={"data": params.data.model_copy(update={"source": "folder"})})
    execute = _container_runner(project, params) if docker else run_in_subprocesses
    reason: Exception | None = None
    with _report_full_disk(log), log.open("w") as file, RunDisplay(console) as display:
        output = EventLog(file, display.on_event)
        try:
            execute(build_pipeline(project, references(project, here())), arguments(project, params), output)
            failed = display.step  # it died before it could write an event
        except Exception as error:
            if display.step is None and not docker:
                raise
            traceback.print_exc(file=output)
            failed, reason = display.step or "starting a container", error
    if failed:
        failure = display.failure or f"it ended without an error message; the end of {log} may say why"
        raise RunError(f"{failed} failed: {failure}\nlog: {log}") from reason
    return _close(display, console, log, images)


@contextmanager
def _report_full_disk(log: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _not_writable(error, log, "free some space") from error


def _not_writable(error: OSError, path: Path, remedy: str) -> RunError:
    return RunError(
        f"{error.filename or path} cannot be written ({error.strerror}): {remedy}, or choose another folder with "
        "VOLUMES=/elsewhere"
    )


def _container_runner(project: Project, params: Params) -> Callable[..., None]:
    from pipeline.local.containers import give_to_containers, run_in_containers

    volumes = [data_volume(), model_volume(), deploy_volume()]
    give_to_containers(volumes)
    images = references(project, here())
    online = {step.name for step in STEPS if step.needs_network(params)}
    return partial(run_in_containers, volumes=volumes, steps={images[step.name]: step for step in STEPS}, online=online)


def _prepare_volumes(volumes: Path) -> Path:
    """Set VOLUMES for the steps, make the folders, remove old logs, and return the path of this run's log."""
    os.environ["VOLUMES"] = str(volumes.absolute())
    logs = volumes.absolute() / LOGS
    try:
        for folder in (data_volume(), model_volume(), deploy_volume(), logs):
            folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(logs.glob("run-*.log"))[: 1 - _LOGS_KEPT]:
            old.unlink(missing_ok=True)
        log = logs / f"run-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
        log.touch()
    except OSError as error:
        raise _not_writable(error, logs, "make it writable") from error
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
    if verdict.lacking:
        lines.append(("lacking", verdict.lacking))
    return lines


def advice_lines(advice: Sequence[str]) -> list[tuple[str, str]]:
    """What the closing lines say of what would help: the first sentences, and that the report has more."""
    lines = [("would help" if not number else "", text) for number, text in enumerate(advice[:_ADVICE])]
    if len(advice) > _ADVICE:
        lines.append(("", f"{len(advice) - _ADVICE} more in the report"))
    return lines or [("would help", "nothing stands out; the report says what was looked at")]


def _close(display: RunDisplay, console: Console, log: Path, images: Path | None) -> RunResult:
    analysis = display.finished["analyse"]
    verdict = analysis.verdict
    if verdict is None:
        raise RunError(f"analyse ended without a verdict: see its output in {log}")
    console.print(display.table())
    lines = [*verdict_lines(verdict), *advice_lines(analysis.advice)]
    served = read_pointer()
    if served:
        lines.append(("served model", str(deploy_volume() / MODEL_STORE / served.mar)))
    if served and (prediction := served.prediction):  # a pointer written by hand may have none
        label, distance = prediction["answer"]["label"], prediction["answer"]["distance"]
        lines.append(("prediction", f"{label} for a test image of {prediction['expected']}, distance {distance:.4f}"))
    # In a container the model volume has another path, so only the end of the report's path is used.
    report = model_volume().joinpath(*Path(analysis.report).parts[-3:])
    lines += [("report", str(report)), ("log", str(log))]
    if images:
        lines.append(("next runs", f"with IMAGES={images} again, or data.source: folder in params.yaml"))
    console.print()
    for name, text in lines:
        console.print(f"{name:<13} {text}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    return RunResult(_outcome(display, verdict, served), verdict)


def _outcome(display: RunDisplay, verdict: Verdict, served: Pointer | None) -> Outcome:
    deployed = display.finished.get("deploy")
    if deployed is None:
        still = f"; {served.version} is still served" if served else "; nothing is served"
        return Outcome("REJECTED", verdict.reason + still)
    word = "UNCHANGED" if deployed.unchanged else "DEPLOYED"
    return Outcome(word, f"{deployed.version}: {verdict.reason}")
