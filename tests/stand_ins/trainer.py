"""A stand-in for the Kubernetes API with Kubeflow Trainer, on loopback: TrainJobs, their pods, and the logs of these.

Written from the CRD in its release 2.3.0 (`trainjobs-v2.3.0.json`), from its webhook and its plugin for torch, and from
the reference of the Kubernetes API: paths, verbs, query parameters, statuses. A job moves one step further with each
GET. It allows what a given Role allows. It shares no code with the client.
"""

import copy
import json
import re
import threading
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonschema

Json = dict[str, Any]
SCHEMA: Json = json.loads((Path(__file__).with_name("trainjobs-v2.3.0.json")).read_text())["schema"]
RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/(?P<version>[^/]+))/namespaces/(?P<namespace>[^/]+)/(?P<kind>[^/]+)"
    r"(?:/(?P<name>[^/]+)(?:/(?P<part>[^/]+))?)?"
)
QUERY = {"get": {"container", "previous"}, "list": {"labelSelector", "fieldSelector"}, "create": set()}
QUERY["delete"] = {"propagationPolicy"}
WAITING = {"waiting": {"reason": "ContainerCreating"}}


def strict(schema: Any) -> Any:
    """The schema as the API server applies it: a field that it does not name is refused."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and isinstance(schema["properties"], dict) and schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def check(job: Json) -> None:
    """Hold a TrainJob against the CRD; jsonschema.ValidationError if it breaks it."""
    _validator().validate(job)
    name = job["metadata"]["name"]
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 63:
        raise jsonschema.ValidationError(f"metadata.name {name!r} must match RFC 1035 DNS label format")


@cache
def _validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(strict(SCHEMA))


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, message: str, name: str = "") -> None:
        super().__init__(message)
        self.status, self.name = status, name


class Trainer:
    """The TrainJobs that the API holds, its next answers, and the requests that it received."""

    def __init__(self, rules: list[Json], namespace: str = "kubeflow") -> None:
        self.token, self.namespace, self.rules = "right", namespace, rules
        self.installed, self.runtimes = True, {"torch-distributed"}
        self.jobs: dict[str, Json] = {}
        self.created: list[Json] = []
        self.deleted: list[str] = []
        self.pods: dict[str, list[Json]] = {}  # of each job
        self.says: list[str] = []  # the lines of the first pod's log, one more with each look
        self.ends = ("Complete", "AllJobsCompleted", "jobset completed successfully")
        self.trouble: list[int] = []  # statuses of the next answers; 0 closes the connection
        self.on_look: Callable[[int], None] = lambda _: None  # called with the number of the look at a job
        self.on_end: Callable[[Json], None] = lambda _: None
        self.used: set[tuple[str, str, str]] = set()  # group, resource, verb
        self.lock = threading.RLock()
        self.looks = 0
        self.earlier: dict[str, str] = {}  # the log of before a container's restart, by pod
        self._uids = count(1)
        owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run-x", "uid": "w1"}
        self.launcher = {"metadata": {"name": "launcher", "ownerReferences": [{**owner, "controller": True}]}}

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Json | str | None]:
        """Status and content of the answer; status 0 closes the connection."""
        with self.lock:
            try:
                return 200, self._route(method, urlsplit(url), headers, body)
            except Refused as refused:
                status, message = refused.status, str(refused)
                if message.startswith("404"):  # of a group that the server does not know
                    return status, message
                failure = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status}
                return status, {**failure, "message": message, "details": {"name": refused.name}}

    def _route(self, method: str, url: Any, headers: Any, body: bytes) -> Json | str:
        if self.trouble:
            raise Refused(self.trouble.pop(0), "trouble")
        if headers.get("Authorization") != f"Bearer {self.token}":
            raise Refused(401, "Unauthorized")
        match = PATH.fullmatch(url.path)
        if match is None:
            raise Refused(404, "404 page not found")
        group, name = match["group"] or "", match["name"] or ""
        resource = "/".join(filter(None, (match["kind"], match["part"])))
        verb = {"GET": "get" if name else "list", "POST": "create"}.get(method, method.lower())
        if match["namespace"] != self.namespace or not self._allowed(group, resource, verb):
            raise Refused(
                403, f'{resource} "{name}" is forbidden: cannot {verb} resource "{resource}" in API group "{group}"'
            )
        if group and (not self.installed or (group, match["version"]) != ("trainer.kubeflow.org", "v1alpha1")):
            raise Refused(404, "404 page not found")
        self.used.add((group, resource, verb))
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if unknown := set(query) - QUERY[verb]:
            raise Refused(400, f"unknown query parameters {sorted(unknown)}")
        match resource, verb:
            case "trainjobs", "create":
                return self._create(json.loads(body))
            case "trainjobs", "get":
                return self._get(name)
            case "trainjobs", "delete":
                return self._delete(name)
            case "pods", "list":
                return self._list(query)
            case "pods/log", "get":
                return self._log(name, query)
        raise Refused(405, f"{method} {url.path}")

    def _allowed(self, group: str, resource: str, verb: str) -> bool:
        return any(
            group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for rule in self.rules
        )

    def _create(self, job: Json) -> Json:
        try:
            check(job)
        except jsonschema.ValidationError as error:
            raise Refused(422, f"TrainJob is invalid: {error.message}", job["metadata"]["name"]) from error
        name = job["metadata"]["name"]
        if name in self.jobs:
            raise Refused(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists', name)
        webhook = 'admission webhook "validator.trainjob.trainer.kubeflow.org" denied the request: '
        if job["spec"]["runtimeRef"]["name"] not in self.runtimes:
            raise Refused(403, f"{webhook}specified clusterTrainingRuntime must be created before the TrainJob", name)
        if RESERVED & {one["name"] for one in job["spec"]["trainer"].get("env", [])}:
            raise Refused(403, f"{webhook}must not have reserved envs", name)
        self.created.append(copy.deepcopy(job))
        job["metadata"]["uid"] = f"j{next(self._uids)}"
        self.jobs[name], self.pods[name], self.looks = job, [], 0
        return job

    def _get(self, name: str) -> Json:
        if name not in self.jobs:
            raise Refused(404, f'trainjobs.trainer.kubeflow.org "{name}" not found', name)
        self.looks += 1
        self._move(self.jobs[name], name)
        self.on_look(self.looks)
        return self.jobs[name]

    def _delete(self, name: str) -> Json:
        if name not in self.jobs:
            raise Refused(404, f'trainjobs.trainer.kubeflow.org "{name}" not found', name)
        self.deleted.append(name)
        self.pods.pop(name)
        return self.jobs.pop(name)

    def lose(self, name: str) -> None:
        """Somebody else deletes a job."""
        del self.jobs[name], self.pods[name]

    def _move(self, job: Json, name: str) -> None:
        """One look later: pods are made, they start, say a line each look, and the job ends."""
        nodes = job["spec"]["trainer"].get("numNodes", 1)
        if self.looks == 2:
            self.pods[name] = [self.pod(name, number) for number in range(nodes)]
        elif self.looks == 3:
            for pod in self.pods[name]:
                pod["status"]["containerStatuses"][0].update(state={"running": {}}, ready=True)
        elif self.looks > 3 + len(self.says):
            kind, reason, message = self.ends
            if kind and not job.get("status"):
                self.on_end(job)
                condition = {"type": kind, "status": "True", "reason": reason, "message": message}
                condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
                numbers = {"ready": 0, "succeeded": 0, "failed": 0, "active": 0, "suspended": 0}
                job["status"] = {"conditions": [condition], "jobsStatus": [{"name": "node", **numbers}]}

    def pod(self, job: str, number: int) -> Json:
        """A new pod of a job's node, which has not started."""
        uid = next(self._uids)
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(number),
        }
        made = {"creationTimestamp": f"2026-01-01T00:00:{uid % 60:02}Z", "labels": labels, "uid": f"p{uid}"}
        status = {"name": "node", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": WAITING}
        return {
            "metadata": {"name": f"{job}-node-0-{number}-{uid:05}", **made},
            "spec": {"containers": [{"name": "node"}]},
            "status": {"phase": "Pending", "containerStatuses": [{**status, "lastState": {}}]},
        }

    def _list(self, query: dict[str, str]) -> Json:
        every = [self.launcher, *(pod for pods in self.pods.values() for pod in pods)]
        if field := query.get("fieldSelector"):
            every = [pod for pod in every if field == f"metadata.name={pod['metadata']['name']}"]
        wanted = dict(part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part)
        items = [pod for pod in every if wanted.items() <= pod["metadata"].get("labels", {}).items()]
        return {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": items}

    def _log(self, name: str, query: dict[str, str]) -> str:
        pod = next((p for pods in self.pods.values() for p in pods if p["metadata"]["name"] == name), None)
        if pod is None:
            raise Refused(404, f'pods "{name}" not found', name)
        if query.get("container") != "node":
            raise Refused(400, f"a container name must be specified for pod {name}", name)
        if query.get("previous") == "True":
            return self.earlier[name]
        if pod["status"]["containerStatuses"][0]["state"] == WAITING:
            raise Refused(400, f'container "node" in pod "{name}" is waiting to start: ContainerCreating', name)
        said = self.says[: max(0, self.looks - 2)] if name.split("-node-0-")[1].startswith("0-") else []
        return "".join(f"{line}\n" for line in said)
