"""Reads a run on the server: the states of its steps, and their events in the logs of their pods.

The server tells of a run a task for each node of Argo's workflow. A step `train` is a node of this name. Its attempt
`train(0)` has a node `executor`, whose attempts `executor(0)`, `executor(1)` are the step's pods. A driver of Kubeflow,
`train-driver(0)`, runs before them. Only `child_tasks` have the ids of nodes. A step that runs once for each shard has
as many nodes of its name.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from contract.events import Event, Failed, Finished, Settled, joined, parse
from pipeline.kubeflow.client import Kubeflow
from pipeline.outcome import Outcome
from steps.registry import SHOWN

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "CANCELED", "SKIPPED")
FAILED = "FAILED"
RUNNING = "RUNNING"
PENDING = "PENDING"
_PODS = re.compile(r"executor|.+-driver")  # the node of a pod's attempts
_POD = re.compile(rf"({_PODS.pattern})\(\d+\)")
_ATTEMPT = re.compile(r"(.+)\((\d+)\)")
_EXIT_STATUS = re.compile(r"failed to execute component: exit status (\d+)")
_COMPONENT_FAILED = "Component failed to execute successfully"
_RAISED = re.compile(r"[A-Za-z_][\w.]*: .")  # the last line of a traceback
_KILLED = 137  # 128 and the number of SIGKILL, which the kernel sends a process that has no memory left
_OUTPUTS = "ExecutorOutput: "  # Kubeflow's launcher writes a step's outputs after these words

Events = dict[str, Finished]


@dataclass(frozen=True)
class Task:
    """A step of a run, or the tasks of all its shards together: its state, its times, and why it failed."""

    state: str | None
    start_time: datetime | None
    end_time: datetime | None
    error: Any = None


def steps(run: Any) -> dict[str, Task]:
    """The tasks of a run's steps.

    Args:
        run: The run, as the server returned it.

    Returns:
        The task of each step that the server has created so far, by the step's name.
    """
    names = {name: step.name for step in SHOWN for name in (step.name, step.title)}
    found: dict[str, list[Any]] = {}
    for task in _tasks(run):
        if task.display_name in names:
            found.setdefault(names[task.display_name], []).append(task)
    return {step.name: _together(found[step.name]) for step in SHOWN if step.name in found}


def _together(tasks: list[Any]) -> Task:
    """Failed if one failed, ended if all have, and else as the one that is furthest."""
    order = (FAILED, RUNNING, PENDING, None, "CANCELED", SUCCEEDED, "SKIPPED")
    first = min(tasks, key=lambda task: order.index(task.state) if task.state in order else len(order))
    starts = [task.start_time for task in tasks if task.start_time]
    ends = [task.end_time for task in tasks if task.end_time]
    ended = max(ends) if len(ends) == len(tasks) else None
    return Task(first.state, min(starts, default=None), ended, first.error)


def state(run: Any, task: Task) -> str | None:
    """The state of a step.

    Args:
        run: The run, as the server returned it.
        task: The step's task.

    Returns:
        The task's state, but PENDING for a task that is RUNNING on the server while no pod of the run is; None if the
        server has none.
    """
    return PENDING if task.state == RUNNING and is_waiting(run) else task.state


def is_waiting(run: Any) -> bool:
    """Whether a pod of the run is to start, or is refused again and again, and none runs."""
    states = [(task.display_name or "", task.state) for task in _tasks(run)]
    pods = [state for name, state in states if _POD.fullmatch(name)]
    if not pods:
        return True
    started = [state for name, state in states if _PODS.fullmatch(name)]
    return RUNNING not in pods and (PENDING in pods or RUNNING in started)


def pods_done(run: Any) -> int:
    """How many pods of the run have succeeded, drivers included."""
    return sum(task.state == SUCCEEDED and bool(_POD.fullmatch(task.display_name or "")) for task in _tasks(run))


def given_up(run: Any) -> str | None:
    """The node that is tried once more although its own retries are used up.

    Argo retries every level of a workflow, so a pod that is always refused is tried the product of all retries.

    Args:
        run: The run, as the server returned it.

    Returns:
        The node's name; None if there is none.
    """
    for task in _tasks(run):
        name = task.display_name or ""
        found = _ATTEMPT.fullmatch(name)
        if found and int(found[2]) > 0 and not _POD.fullmatch(name):
            return found[1]
    return None


def outcome(server: Kubeflow, run: Any) -> tuple[Outcome, Events]:
    """The outcome of a run that succeeded.

    The word follows from the states of the steps: a run that had nothing to do ends before analyse, and one whose model
    the gate rejects before deploy. The logs have the reason, and whether deploy found its version deployed.

    Args:
        server: The server.
        run: The run, as the server returned it.

    Returns:
        The outcome, and the last event of each step whose log is kept.

    Raises:
        LoginError: The token is no longer valid.
    """
    lines = [line for log in _logs(server, run, _executors(run)) for line in log]
    said = [event for line in lines if (event := parse(line))]
    events = _finished(said)
    settled = next((event.outcome for event in said if isinstance(event, Settled)), "")
    verdict = events["analyse"].verdict if "analyse" in events else None
    reason = verdict.reason if verdict else _printed(lines, "reason") or "the logs of its pods are not kept"
    ended = {name for name, task in steps(run).items() if task.state == SUCCEEDED}
    if "analyse" not in ended:
        word, _, why = (settled or f"UNCHANGED there was nothing to do; {reason}").partition(" ")
        return Outcome(word, why), events
    if "deploy" not in ended:
        return Outcome("REJECTED", reason), events
    event = events.get("deploy")
    word = "UNCHANGED" if event and event.unchanged else "DEPLOYED"
    return Outcome(word, f"{event.version}: {reason}" if event and event.version else reason), events


def finished(server: Kubeflow, run: Any) -> Events:
    """The last event of each step that finished, as far as logs are kept; LoginError if the token is not valid."""
    lines = (line for log in _logs(server, run, _executors(run, SUCCEEDED)) for line in log)
    return _finished(event for line in lines if (event := parse(line)))


def _finished(said: Iterable[Event]) -> Events:
    events: Events = {}
    for event in said:
        if isinstance(event, Finished):
            events[event.step] = joined(events.get(event.step), event)
    return {step.name: events[step.name] for step in SHOWN if step.name in events}


def failure(server: Kubeflow, run: Any, explain: Callable[[], str] = str) -> str:
    """Why a run failed.

    Args:
        server: The server.
        run: The run, as the server returned it.
        explain: Asked for more where neither step nor server say why, such as what the cluster knows.

    Returns:
        The step and its error message, as far as the server has them.

    Raises:
        LoginError: The token is no longer valid.
    """
    name, failed = next(((name, task) for name, task in steps(run).items() if task.state == FAILED), ("", None))
    if failed is None:
        drivers = sorted({n[: -len("-driver")] for task in _tasks(run) if (n := _failed_driver(task))})
        where = f"Kubeflow could not start {' and '.join(drivers)}: its driver failed" if drivers else ""
        told = (run.error.message if run.error else None) or explain()
        return ": ".join(filter(None, (where, told))) or "the server gives no reason"
    lines = [line for log in _logs(server, run, _executors(run, FAILED)) for line in log]
    errors = [event.error for line in lines if isinstance(event := parse(line), Failed) and event.step == name]
    if errors:
        return f"{name} failed: {errors[-1]}"
    told = (failed.error.message if failed.error else None) or explain()
    return f"{name} failed: " + "; ".join(filter(None, (_exit(name, lines), told)))


def _exit(step: str, lines: list[str]) -> str:
    """What Kubeflow's launcher says of a step that left no event: the end of a traceback, or the exit status."""
    raised = [before for before, line in pairwise(lines) if _RAISED.match(before) and _COMPONENT_FAILED in line]
    if raised:
        return raised[-1].partition(": ")[2]
    statuses = [int(found[1]) for line in lines if (found := _EXIT_STATUS.search(line))]
    if not statuses:
        return "its pod ended without an error message, or never started"
    if statuses[-1] == _KILLED:
        return (
            f"its process was killed (exit status {_KILLED}), as happens to one that needs more memory than its limit: "
            f"raise kubeflow.resources.{step}.memory_limit in project.yaml"
        )
    return f"its process ended with status {statuses[-1]} without an error message"


def _failed_driver(task: Any) -> str:
    name = task.display_name or ""
    return name if task.state == FAILED and name.endswith("-driver") else ""


def _printed(lines: list[str], output: str) -> str:
    """A step's output, from what Kubeflow's launcher printed of it; nothing if no log has it."""
    text = "\n".join(lines)
    for place in re.finditer(_OUTPUTS, text):
        try:
            values = json.JSONDecoder().raw_decode(text, place.end())[0]["parameterValues"]
        except (ValueError, LookupError, TypeError):
            continue
        if isinstance(values.get(output), str):
            return str(values[output])
    return ""


def _tasks(run: Any) -> list[Any]:
    return list((run.run_details and run.run_details.task_details) or [])


def _executors(run: Any, state: str | None = None) -> Iterator[str]:
    """The ids of the nodes of the steps' pods; only of steps in this state, if one is given."""
    for task in sorted(_tasks(run), key=lambda task: str(task.start_time or "")):
        if (task.display_name or "").startswith("executor") and state in (None, task.state):
            yield from (child.pod_name for child in task.child_tasks or () if child.pod_name)


def _logs(server: Kubeflow, run: Any, nodes: Iterable[str]) -> Iterator[list[str]]:
    """The lines of each pod's log; none of one that is not kept."""
    for node in dict.fromkeys(nodes):
        yield (server.log(run.run_id, node) or server.page_log(run.run_id, node)).splitlines()
