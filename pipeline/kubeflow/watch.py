"""A run on a server, read: its steps' states, and what its steps said in their pods' logs."""

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
    """The run's task of each step that has come up, by the step's name."""
    names = {name: step.name for step in STEPS for name in (step.name, step.title)}
    found = {names[task.display_name]: task for task in _tasks(run) if task.display_name in names}
    return {name: found[name] for name in STEP_NAMES if name in found}


def state(run: Any, task: Any) -> str | None:
    """How a step's task is: one whose pods have all yet to start counts as running on the server, and not here."""
    pods = [one.state for one in _with_pods(run, task) if one is not task]
    waits = bool(pods) and all(one in (None, _PENDING) for one in pods)
    return _PENDING if waits and task.state == "RUNNING" else task.state


def begun(run: Any) -> bool:
    """Whether a pod of any step has started."""
    return any(state(run, task) not in (None, _PENDING) for task in steps(run).values())


def outcome(server: Kubeflow, run: Any) -> tuple[Outcome, Events]:
    """The word and the reason of a run that succeeded, and what each of its steps said at its end.

    A model that the gate rejects ends the run well, without deploy; whether something new was deployed stands in
    deploy's log alone.
    """
    events = {name: said for name, task in steps(run).items() if (said := last_event(server, run, task, Finished))}
    verdict = events["analyse"].verdict if "analyse" in events else None
    reason = verdict.reason if verdict else "the logs of its pods are not kept"
    deployed = steps(run).get("deploy")
    if deployed is None or deployed.state != SUCCEEDED:
        return Outcome("REJECTED", reason), events
    said = events.get("deploy")
    word = "UNCHANGED" if said and said.unchanged else "DEPLOYED"
    return Outcome(word, f"{said.version}: {reason}" if said and said.version else reason), events


def failure(server: Kubeflow, run: Any) -> str:
    """What failed in a run, and why, as far as the server knows."""
    for name, task in steps(run).items():
        if task.state == FAILED:
            said = last_event(server, run, task, Failed)
            told = (said and said.error) or (task.error.message if task.error else None)
            return f"{name} failed: {told or 'its pod ended without a word'}"
    return run.error.message if run.error and run.error.message else "the server does not say why"


def last_event(server: Kubeflow, run: Any, task: Any, kind: type[E]) -> E | None:
    """The last event of a kind that the task's pods printed."""
    found = None
    for pod in [one.pod_name for one in _with_pods(run, task) if one.pod_name]:
        for line in server.log(run.run_id, pod).splitlines():
            event = parse(line)
            if isinstance(event, kind):
                found = event
    return found


def _tasks(run: Any) -> list[Any]:
    return list((run.run_details and run.run_details.task_details) or [])


def _with_pods(run: Any, task: Any) -> Iterator[Any]:
    """The tasks that have the task's pods: itself, and those within it, where Kubeflow's launcher runs the step."""
    by_pod = {one.pod_name: one for one in _tasks(run) if one.pod_name}
    by_id = {one.task_id: one for one in _tasks(run)}
    waiting, seen = [task], set()
    while waiting:
        one = waiting.pop(0)
        if one.task_id in seen:
            continue
        seen.add(one.task_id)
        yield one
        children = [by_pod.get(child.pod_name) or by_id.get(child.task_id) for child in one.child_tasks or ()]
        # A child may also be the next step; the step's own is `executor`, or `executor(1)` when tried again.
        waiting += [child for child in children if child and (child.display_name or "").startswith("executor")]
