"""Reads a run on the server: the states of its steps, and their events in the logs of their pods."""

from collections.abc import Iterator
from typing import Any, TypeVar

from contract.events import Event, Failed, Finished, parse
from pipeline.kubeflow.client import Kubeflow
from pipeline.outcome import Outcome
from steps.registry import STEP_NAMES, STEPS

SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "CANCELED", "SKIPPED")
FAILED = "FAILED"
_PENDING = "PENDING"

Events = dict[str, Finished]
E = TypeVar("E", bound=Event)


def steps(run: Any) -> dict[str, Any]:
    """The tasks of a run's steps.

    Args:
        run: The run, as the server returned it.

    Returns:
        The task of each step that the server has created so far, by the step's name.
    """
    names = {name: step.name for step in STEPS for name in (step.name, step.title)}
    found = {names[task.display_name]: task for task in _tasks(run) if task.display_name in names}
    return {name: found[name] for name in STEP_NAMES if name in found}


def state(run: Any, task: Any) -> str | None:
    """The state of a step.

    Args:
        run: The run, as the server returned it.
        task: The step's task.

    Returns:
        The task's state, but PENDING for a task that is RUNNING on the server while all its pods are pending; None if
        the server has none.
    """
    pods = [each.state for each in _with_pods(run, task) if each is not task]
    pending = bool(pods) and all(each in (None, _PENDING) for each in pods)
    return _PENDING if pending and task.state == "RUNNING" else task.state


def has_started(run: Any) -> bool:
    """Whether any pod of the run has started."""
    return any(state(run, task) not in (None, _PENDING) for task in steps(run).values())


def outcome(server: Kubeflow, run: Any) -> tuple[Outcome, Events]:
    """The outcome of a run that succeeded.

    A run whose model the gate rejects succeeds, too, without a deploy step. Only the log of deploy says whether the
    version is new.

    Args:
        server: The server.
        run: The run, as the server returned it.

    Returns:
        The outcome, and the last event of each step whose log is kept.

    Raises:
        LoginError: The token is no longer valid.
    """
    events = {name: event for name, task in steps(run).items() if (event := last_event(server, run, task, Finished))}
    verdict = events["analyse"].verdict if "analyse" in events else None
    reason = verdict.reason if verdict else "the logs of its pods are not kept"
    deployed = steps(run).get("deploy")
    if deployed is None or deployed.state != SUCCEEDED:
        return Outcome("REJECTED", reason), events
    event = events.get("deploy")
    word = "UNCHANGED" if event and event.unchanged else "DEPLOYED"
    return Outcome(word, f"{event.version}: {reason}" if event and event.version else reason), events


def failure(server: Kubeflow, run: Any) -> str:
    """Why a run failed.

    Args:
        server: The server.
        run: The run, as the server returned it.

    Returns:
        The step and its error message, as far as the server has them.

    Raises:
        LoginError: The token is no longer valid.
    """
    for name, task in steps(run).items():
        if task.state == FAILED:
            event = last_event(server, run, task, Failed)
            message = (event and event.error) or (task.error.message if task.error else None)
            return f"{name} failed: {message or 'its pod ended without an error message'}"
    return run.error.message if run.error and run.error.message else "the server gives no reason"


def last_event(server: Kubeflow, run: Any, task: Any, kind: type[E]) -> E | None:
    """The last event of a kind in the logs of a task's pods.

    Args:
        server: The server.
        run: The run, as the server returned it.
        task: The task.
        kind: The kind of event.

    Returns:
        The event; None if there is none, or no log is kept.

    Raises:
        LoginError: The token is no longer valid.
    """
    found = None
    for pod in [each.pod_name for each in _with_pods(run, task) if each.pod_name]:
        for line in server.log(run.run_id, pod).splitlines():
            event = parse(line)
            if isinstance(event, kind):
                found = event
    return found


def _tasks(run: Any) -> list[Any]:
    return list((run.run_details and run.run_details.task_details) or [])


def _with_pods(run: Any, task: Any) -> Iterator[Any]:
    """A task and its executors, the child tasks that run the step."""
    by_pod = {each.pod_name: each for each in _tasks(run) if each.pod_name}
    by_id = {each.task_id: each for each in _tasks(run)}
    waiting, seen = [task], set()
    while waiting:
        found = waiting.pop(0)
        if found.task_id in seen:
            continue
        seen.add(found.task_id)
        yield found
        children = [by_pod.get(child.pod_name) or by_id.get(child.task_id) for child in found.child_tasks or ()]
        # Other children are the next steps; an executor is `executor`, or `executor(1)` for a retry.
        waiting += [child for child in children if child and (child.display_name or "").startswith("executor")]
