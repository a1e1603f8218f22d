"""Follows a TrainJob: creates or finds it, relays the log of its first process, deletes it when this step is killed.

A killed step that is tried again finds the job, whose name has the network's id. In the place of a pod that was lost
with its node, or of a job that somebody deleted, comes a new job, which resumes from the checkpoint.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from contract.environment import Environment
from contract.events import Failed, Finished, Started, Waiting, Warned, emit, parse
from steps.common.cluster.pods import reason
from steps.common.errors import StepError
from steps.train.cluster.jobs import TrainJobs, UnreachableError

POLL_SECONDS = 3.0
OUTAGE_SECONDS = 600.0  # for which the API may be away
GONE_SECONDS = 300.0  # until a deleted job's pods have ended
_MOST_JOBS = 10  # in the place of lost ones
_STEP = "train"


def processes(template: str) -> int:
    """How many processes a TrainJob has, of which the JSON is given."""
    trainer = json.loads(template)["spec"]["trainer"]
    return int(trainer["numNodes"]) * int(trainer["numProcPerNode"])


def follow(template: str, id: str, arguments: Sequence[str], is_made: Callable[[], bool]) -> None:
    """Train in a TrainJob.

    Args:
        template: The job as JSON, without its arguments; its name is a prefix.
        id: The id of the network, with which the name ends.
        arguments: Of the command in the job's pods.
        is_made: Whether the network is there, as another run may have made it with the same job.

    Raises:
        StepError: The job failed, cannot be created, or was lost too often.
    """
    environment = Environment()
    jobs, job = TrainJobs(environment.pod_namespace or "default"), json.loads(template)
    name = job["metadata"]["name"] = f"{job['metadata']['name']}-{id}"
    job["spec"]["trainer"]["args"] = list(arguments)
    with _deleting_when_killed(jobs, name):
        if _ended(jobs.find(name)):  # of an earlier try, which left no network
            _remove(jobs, name)
        # With the run's workflow goes a job that a killed step has left.
        job["metadata"]["ownerReferences"] = jobs.owners(environment.pod_name or "")
        for _ in range(_MOST_JOBS):
            if is_made():
                return
            jobs.create(job)
            if _Job(jobs, name).is_done():
                jobs.delete(name)
                return
    raise StepError(f"the TrainJob {name} was lost {_MOST_JOBS} times: see which nodes fail, and run again")


class _Job:
    """One job that is followed to its end."""

    def __init__(self, jobs: TrainJobs, name: str) -> None:
        self._jobs, self._name = jobs, name
        self._said = ""
        self._pods: dict[int, str] = {}  # the uid of each node's pod
        self._log = _Log(jobs)

    def is_done(self) -> bool:
        """Wait for the job's end; False if it, or one of its pods, was lost; StepError if it failed."""
        answered = time.monotonic()
        while True:
            try:
                job, pods = self._jobs.find(self._name), self._jobs.pods(self._name)
                self._log.relay(pods.get(0))
                answered = time.monotonic()
            except UnreachableError:  # the job goes on meanwhile
                if time.monotonic() - answered > OUTAGE_SECONDS:
                    raise
                time.sleep(POLL_SECONDS)
                continue
            if self._log.error:  # it would be the same at each restart of its container
                self._jobs.delete(self._name)
                raise StepError(self._log.error)
            if (ended := _ended(job)) and ended["type"] == "Complete":
                return True
            if ended:
                raise StepError(f"the TrainJob {self._name} failed: {self._why(ended, pods)}")
            if lost := self._lost(job, pods):
                emit(Warned(f"{lost}, so a new TrainJob goes on from the last checkpoint", _STEP))
                _remove(self._jobs, self._name)
                return False
            self._tell(job, pods)
            time.sleep(POLL_SECONDS)

    def _lost(self, job: dict[str, Any] | None, pods: dict[int, Any]) -> str:
        """What was lost, so that the other processes wait for it in vain; nothing if all is there."""
        if job is None or job["metadata"].get("deletionTimestamp"):
            return f"the TrainJob {self._name} was deleted"
        now = {number: pod.metadata.uid for number, pod in pods.items()}
        known, self._pods = self._pods, {**self._pods, **now}
        replaced = [number for number, uid in now.items() if known.get(number, uid) != uid]
        return f"the pod of node {replaced[0]} was lost" if replaced else ""

    def _why(self, ended: dict[str, Any], pods: dict[int, Any]) -> str:
        """What the job's condition, its pods' states, and the last error in their logs say."""
        said = [ended.get("message") or ended.get("reason", "")]
        for number, pod in pods.items():
            errors = [
                event.error for line in self._jobs.log(pod.metadata.name) if isinstance(event := parse(line), Failed)
            ]
            if why := (errors[-1:] or [reason(pod)])[0]:
                said.append(f"node {number} {why}")
        return "; ".join(dict.fromkeys(filter(None, said)))

    def _tell(self, job: dict[str, Any] | None, pods: dict[int, Any]) -> None:
        """Say what the job waits for, when that changes."""
        suspended = _condition(job, "Suspended")
        waits = [f"node {number}: {why}" for number, pod in sorted(pods.items()) if (why := reason(pod))]
        waits = ["it is suspended, as a queue does until there is room"] if suspended else waits
        if (now := "; ".join(waits)) != self._said:
            self._said = now
            if now:
                emit(Waiting(f"the TrainJob {self._name} waits: {now}", _STEP))


class _Log:
    """What the first process says, each line once; its error is kept."""

    def __init__(self, jobs: TrainJobs) -> None:
        self._jobs = jobs
        self._container = ("", 0)  # pod, and how often its container was restarted
        self._lines = 0  # of this container, which were relayed
        self.error = ""

    def relay(self, pod: Any) -> None:
        """Print the lines that are new; `pod` is None before there is one."""
        if pod is None:
            return
        name = pod.metadata.name
        restarts = sum(one.restart_count for one in pod.status.container_statuses or ())
        if self._container != (name, restarts):
            if self._container[0] == name:  # what it said between the last look and its end
                self._print(self._jobs.log(name, previous=True))
            self._container, self._lines = (name, restarts), 0
        self._print(self._jobs.log(name))

    def _print(self, lines: list[str]) -> None:
        for line in lines[self._lines :]:
            event = parse(line)
            if isinstance(event, Failed):
                self.error = event.error
            elif not isinstance(event, Started | Finished):  # which the step says itself
                print(line, flush=True)
        self._lines = len(lines)


def _condition(job: dict[str, Any] | None, kind: str) -> dict[str, Any] | None:
    conditions = ((job or {}).get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind and one["status"] == "True"), None)


def _ended(job: dict[str, Any] | None) -> dict[str, Any] | None:
    """The condition with which a job has ended; None if it has not."""
    return _condition(job, "Complete") or _condition(job, "Failed")


def _remove(jobs: TrainJobs, name: str) -> None:
    """Delete a job, and wait until it and its pods are gone: two trainings would write one checkpoint."""
    jobs.delete(name)
    end = time.monotonic() + GONE_SECONDS
    while jobs.find(name) is not None or jobs.pods(name):
        if time.monotonic() > end:
            raise StepError(f"the deleted TrainJob {name} or a pod of it is still there: delete it, and run again")
        time.sleep(POLL_SECONDS)


@contextmanager
def _deleting_when_killed(jobs: TrainJobs, name: str) -> Iterator[None]:
    """Delete the job when Kubernetes ends this pod, or when somebody interrupts it."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except (SystemExit, KeyboardInterrupt):
        jobs.delete(name)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
