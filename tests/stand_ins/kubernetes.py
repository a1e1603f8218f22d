"""A stand-in for the Kubernetes API, on loopback: one Deployment, whose rollout goes one step further with each GET.

Written from the reference of the Kubernetes API, apps/v1 and core/v1: paths, verbs, query parameters, content types of
patches, the fields of a Deployment's status; and from what Kubernetes 1.33.5 said of a Deployment whose pods are
refused, and of one that goes back to an existing ReplicaSet. It allows what a given Role allows. It shares no code with
the client.
"""

import copy
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import parse_qs, urlsplit

Json = dict[str, Any]
STAMP = "continuous-training/model-version"
PATCHES = ("application/strategic-merge-patch+json", "application/merge-patch+json")
REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed"}
REASONS |= {409: "Conflict", 415: "UnsupportedMediaType", 422: "Invalid", 503: "ServiceUnavailable"}
# The query parameters of each verb.
QUERY = {"get": {"pretty"}, "patch": {"fieldManager", "fieldValidation", "dryRun", "force", "pretty"}}
QUERY["list"] = {"labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "timeoutSeconds", "pretty"}
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>[^/]+)(?:/(?P<name>[^/]+))?"
)
ALL = [
    {"apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["torchserve"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
]


class Refused(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Pod:
    """A pod of one template; `trouble` is its status if it does not become ready."""

    name: str
    template: Json
    ready: bool = False
    trouble: Json = field(default_factory=dict)

    @property
    def version(self) -> str | None:
        """The version in its template's annotation."""
        return self.template["metadata"].get("annotations", {}).get(STAMP)

    def json(self) -> Json:
        """The pod as the API returns it."""
        running = {"name": "torchserve", "ready": self.ready, "restartCount": 0, "image": "i", "imageID": ""}
        status: Json = {"phase": "Running" if self.ready else "Pending"}
        state = {"running": {}} if self.ready else {"waiting": {"reason": "ContainerCreating"}}
        status["containerStatuses"] = [
            {**running, "state": state, "lastState": {}, **self.trouble.get("container", {})}
        ]
        if "conditions" in self.trouble:
            status = {"phase": "Pending", "conditions": self.trouble["conditions"]}
        metadata = {"name": self.name, **copy.deepcopy(self.template["metadata"])}
        return {"metadata": metadata, "spec": self.template["spec"], "status": status}


class Cluster:
    """The objects that the API holds, its next answers, and the requests that it received."""

    def __init__(self, *, namespace: str = "kubeflow", rules: list[Json] | None = None, replicas: int = 2) -> None:
        self.token, self.namespace, self.rules = "right", namespace, ALL if rules is None else rules
        self.replicas, self.exists, self.lag = replicas, True, 2
        container = {"name": "torchserve", "image": "serving:old", "ports": [{"containerPort": 8080}]}
        labels = {"app.kubernetes.io/name": "torchserve"}
        template: Json = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        self.deployment: Json = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "torchserve", "namespace": namespace, "generation": 1, "resourceVersion": "1"},
            "spec": {
                **{"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
                "progressDeadlineSeconds": 1,
            },
        }
        self._replica_sets = [copy.deepcopy(template)]  # the templates of before
        self._names, self._looks, self._seen, self._stuck, self._goes_back = count(1), 0, 1, 0, False
        self.pods = [self._pod(ready=True) for _ in range(replicas)]
        self.broken: dict[str, Json] = {}  # by version: the trouble of all its pods
        self.refused: dict[str | None, str] = {}  # by version: why a quota or a policy refuses its pods
        self.hangs: set[str] = set()  # versions whose pods never become ready, without an exceeded deadline
        self.patience = 3  # GETs until the deadline is exceeded
        self.trouble: list[int] = []  # statuses of the next answers; 0 closes the connection
        self.trouble_to: dict[str, list[int]] = {}  # the same, by verb
        self.asked: list[tuple[str, str]] = []  # verb and resource
        self.used: set[tuple[str, str, str, str]] = set()  # group, resource, name, verb
        self.on_patch: Callable[[], None] = lambda: None
        self.lock = threading.RLock()

    @property
    def stamp(self) -> str | None:
        """The version in the pod template's annotation."""
        stamp: str | None = self.deployment["spec"]["template"]["metadata"].get("annotations", {}).get(STAMP)
        return stamp

    @property
    def image(self) -> str:
        """The image that the pod template names."""
        return str(self.deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Json | None]:
        """Status and content of the answer; status 0 closes the connection."""
        with self.lock:
            try:
                return 200, self._route(method, urlsplit(url), headers, body)
            except Refused as refused:
                status, message = refused.status, str(refused)
                failure = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status}
                return status, {**failure, "message": message, "reason": REASONS.get(status, "InternalError")}

    def _route(self, method: str, url: Any, headers: Any, body: bytes) -> Json:
        match = PATH.fullmatch(url.path)
        if match is None:
            raise Refused(404, "the server could not find the requested resource")
        group, kind, name = match["group"] or "", match["kind"], match["name"] or ""
        verb = {"GET": "get" if name else "list", "PATCH": "patch"}.get(method, method.lower())
        self.asked.append((verb, kind))
        if self.trouble:
            raise Refused(self.trouble.pop(0), "trouble")
        if self.trouble_to.get(verb):
            raise Refused(self.trouble_to[verb].pop(0), "trouble")
        scheme, _, token = (headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or token != self.token:
            raise Refused(401, "Unauthorized")
        if match["namespace"] != self.namespace or not self._allowed(group, kind, name, verb):
            raise Refused(
                403, f'{kind} "{name}" is forbidden: User cannot {verb} resource "{kind}" in API group "{group}"'
            )
        self.used.add((group, kind, name, verb))
        query = parse_qs(url.query, strict_parsing=bool(url.query))
        if unknown := set(query) - QUERY.get(verb, set()):
            raise Refused(400, f"unknown query parameters {sorted(unknown)}")
        match group, kind, verb:
            case "apps", "deployments", "get":
                return self._get(name)
            case "apps", "deployments", "patch":
                return self._patch(name, headers.get("Content-Type", ""), body)
            case "", "pods", "list":
                return self._list(query.get("labelSelector", [""])[0])
        raise Refused(405, f"{method} {url.path}")

    def _allowed(self, group: str, kind: str, name: str, verb: str) -> bool:
        return any(
            group in rule["apiGroups"]
            and kind in rule["resources"]
            and verb in rule["verbs"]
            and name in rule.get("resourceNames", [name])
            for rule in self.rules
        )

    def _found(self, name: str) -> Json:
        if not self.exists or name != self.deployment["metadata"]["name"]:
            raise Refused(404, f'deployments.apps "{name}" not found')
        return self.deployment

    def _get(self, name: str) -> Json:
        self._found(name)
        self._move()
        return {**copy.deepcopy(self.deployment), "status": self._status()}

    def _patch(self, name: str, kind: str, body: bytes) -> Json:
        one = self._found(name)
        if kind not in PATCHES:
            raise Refused(
                415, f"the body of the request was in an unknown format - accepted media types include: {PATCHES}"
            )
        patch = json.loads(body)
        version = patch.get("metadata", {}).pop("resourceVersion", None)
        if version not in (None, one["metadata"]["resourceVersion"]):
            raise Refused(409, "the object has been modified; please apply your changes to the latest version")
        changed = _merged(one, patch, strategic=kind == PATCHES[0])
        _check(changed)
        if changed["spec"] != one["spec"]:
            self._goes_back = changed["spec"]["template"] in self._replica_sets
            self._replica_sets.append(copy.deepcopy(changed["spec"]["template"]))
            changed["metadata"]["generation"] += 1
            self._looks = self._stuck = 0
        changed["metadata"]["resourceVersion"] = str(int(one["metadata"]["resourceVersion"]) + 1)
        self.deployment = changed
        self.on_patch()
        return {**copy.deepcopy(changed), "status": self._status()}

    def _list(self, selector: str) -> Json:
        wanted = dict(part.split("=", 1) for part in selector.split(",")) if selector else {}
        items = [pod.json() for pod in self.pods if wanted.items() <= pod.template["metadata"]["labels"].items()]
        return {"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": items}

    def _pod(self, ready: bool = False) -> Pod:
        template = copy.deepcopy(self.deployment["spec"]["template"])
        return Pod(f"torchserve-{next(self._names)}", template, ready)

    def _new(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.template == self.deployment["spec"]["template"]]

    def _move(self) -> None:
        """One GET later: notice a new template after `lag` GETs, then replace one pod after the other."""
        if self._seen < self.deployment["metadata"]["generation"]:
            self._looks += 1
            if self._looks >= self.lag:
                self._seen = self.deployment["metadata"]["generation"]
            return
        new, old = self._new(), [pod for pod in self.pods if pod not in self._new()]
        waiting = [pod for pod in new if not pod.ready]
        broken = [pod for pod in old if not pod.ready]
        if broken:
            self.pods.remove(broken[0])
        elif waiting:
            if self.stamp in self.broken:
                waiting[0].trouble = self.broken[self.stamp]
                self._stuck += 1
            elif self.stamp not in self.hangs:
                waiting[0].ready = True
        elif len(new) < self.replicas and self.stamp in self.refused:
            self._stuck += 1
        elif len(new) < self.replicas:
            self.pods.append(self._pod())
        if len([pod for pod in self.pods if pod.ready]) > self.replicas and old:
            self.pods.remove(next(pod for pod in old if pod.ready))

    def _status(self) -> Json:
        new, available = self._new(), [pod for pod in self.pods if pod.ready]
        if self._seen < self.deployment["metadata"]["generation"]:
            new = self.pods  # the status is still that of the former template
        exceeded = self._stuck > self.patience and not self._goes_back
        progressing = {"type": "Progressing", "status": "False" if exceeded else "True"}
        moving = "NewReplicaSetAvailable" if self._goes_back else "ReplicaSetUpdated"
        progressing["reason"] = "ProgressDeadlineExceeded" if exceeded else moving
        conditions = [progressing]
        if message := self.refused.get(self.stamp):
            conditions.append(
                {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
            )
        numbers = {"replicas": len(self.pods), "updatedReplicas": len(new), "availableReplicas": len(available)}
        return {"observedGeneration": self._seen, **numbers, "conditions": conditions}


def _merged(one: Any, patch: Any, *, strategic: bool) -> Any:
    """JSON Merge Patch (RFC 7386) replaces lists; a strategic merge patch merges containers by name."""
    if isinstance(patch, list) and strategic:
        merged = {each["name"]: each for each in copy.deepcopy(one)}
        for each in patch:
            merged[each["name"]] = _merged(merged.get(each["name"], {}), each, strategic=True)
        return list(merged.values())
    if not isinstance(patch, dict):
        return patch
    result = dict(copy.deepcopy(one)) if isinstance(one, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value, strategic=strategic)
    return result


def _check(deployment: Json) -> None:
    """Refuse unknown fields, incomplete containers, and annotations that are no strings."""
    template = deployment["spec"]["template"]
    fields = {"replicas", "selector", "template", "paused", "progressDeadlineSeconds"}
    if (
        set(deployment["spec"]) - fields
        or set(template) - {"metadata", "spec"}
        or set(template["spec"]) - {"containers"}
    ):
        raise Refused(400, "strict decoding error: unknown field")
    if any({"name", "image", "ports"} != set(each) for each in template["spec"]["containers"]):
        raise Refused(422, "spec.template.spec.containers: Required value")
    for value in template["metadata"].get("annotations", {}).values():
        if not isinstance(value, str):
            raise Refused(400, "cannot unmarshal into string")


def waiting(reason: str, message: str) -> Json:
    """The state of a container that does not start."""
    return {"container": {"ready": False, "state": {"waiting": {"reason": reason, "message": message}}}}


def crashed(message: str) -> Json:
    """The state of a container that ended and is restarted later."""
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": message}}
    back_off = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
    return {"container": {"ready": False, "state": {"waiting": back_off}, "lastState": ended}}


def unschedulable(message: str) -> Json:
    """The state of a pod that fits no node."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"conditions": [condition]}
