"""A stand-in for a Kubeflow Pipelines server, on loopback. It is as strict as the API's definition.

Written from the published definition of the Kubeflow Pipelines API, v2beta1, version 2.17.0: paths, methods, query
parameters, fields of bodies; and from what a real server of this version answered: the tree of a run's tasks, its logs
and their path, the end of a run that is terminated or loses its schedule. It shares no code with the client.
"""

import json
import re
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.stand_ins.kfp_http import Content, Json, Refused

LISTS = {"page_token", "page_size", "sort_by", "filter", "namespace"}
UPLOAD = {"name", "display_name", "description", "tags", "code_source_url"}
# The number of google.rpc.Code for each status.
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 409: 6, 500: 13, 502: 14, 503: 14}


class Kfp:
    """The objects that the server holds, its next answers, and the requests that it received."""

    def __init__(self, *, token: str = "right", namespaces: tuple[str, ...] = (), page: int = 2) -> None:
        self.token, self.namespaces, self.page = token, namespaces, page
        self.pipelines: list[Json] = []
        self.versions: list[Json] = []
        self.experiments: list[Json] = []
        self.runs: list[Json] = []
        self.recurring: list[Json] = []
        self.asked: list[tuple[str, str]] = []
        self.trouble: list[int] = []  # statuses of the next answers; 0 closes the connection
        self.late: list[int] = []  # the same for POST, which takes effect nevertheless
        self.script: list[Json] = []  # states of a new run, one for each GET; the last one stays
        self.logs: dict[str, str] = {}  # by node
        self.has_pages = True  # as behind ml-pipeline-ui or a gateway; ml-pipeline serves the API alone
        self.behind_pages = False  # the server of the pages is in front, and passes v2beta1 on, but no node's log
        self.images: set[str] | None = None  # in the registry at the same address; None: every image

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and content of the answer; status 0 closes the connection."""
        parts = urlsplit(url)
        self.asked.append((method, parts.path))
        if parts.path.startswith("/v2/"):
            there = self.images is None or parts.path.split("/")[-3] in self.images
            return (200 if there else 404), ""
        if parts.path == "/" and self.has_pages:
            return 200, "<!doctype html><title>Kubeflow Pipelines</title>"
        if self.trouble:
            return self._said(self.trouble.pop(0), "trouble")
        try:
            if headers.get("Authorization") != f"Bearer {self.token}":
                raise Refused(401, "the bearer token is not valid")
            query = parse_qs(parts.query, strict_parsing=bool(parts.query))
            answer = self._route(method, parts.path, query, headers, body)
            return self._said(self.late.pop(0), "trouble") if self.late and method == "POST" else (200, answer)
        except Refused as refused:
            return self._said(refused.status, str(refused))

    @staticmethod
    def _said(status: int, message: str) -> tuple[int, Any]:
        return status, {"code": CODES.get(status, 13), "message": message, "details": []}

    def _route(self, method: str, path: str, query: dict[str, list[str]], headers: Any, body: bytes) -> Any:
        known = False
        for wanted, pattern, parameters, work in self._routes():
            match = re.fullmatch(pattern, path)
            known = known or match is not None
            if match and method == wanted:
                if unknown := set(query) - parameters:
                    raise Refused(400, f"unknown query parameters: {sorted(unknown)}")
                one = {key: values[0] for key, values in query.items()}
                return work(*map(unquote, match.groups()), query=one, content=Content(headers, body))
        raise Refused(405 if known else 404, f"{method} {path}")

    def _routes(self) -> Iterator[tuple[str, str, set[str], Callable[..., Any]]]:
        v2, id = "/apis/v2beta1", "([^/:]+)"
        yield "GET", f"{v2}/healthz", set(), lambda **_: {"multi_user": bool(self.namespaces)}
        yield "GET", f"{v2}/pipelines", LISTS, self._lister("pipelines", self.pipelines)
        yield "POST", f"{v2}/pipelines", set(), self._create_pipeline
        yield "POST", f"{v2}/pipelines/upload_version", UPLOAD | {"pipelineid"}, self._upload_version
        yield "GET", f"{v2}/pipelines/{id}/versions", LISTS - {"namespace"}, self._list_versions
        yield "GET", f"{v2}/experiments", LISTS, self._lister("experiments", self.experiments)
        yield "POST", f"{v2}/experiments", set(), self._create_experiment
        yield "GET", f"{v2}/runs", LISTS | {"experiment_id"}, self._list_runs
        yield "POST", f"{v2}/runs", {"experiment_id"}, self._create_run
        yield "GET", f"{v2}/runs/{id}", {"experiment_id"}, self._get_run
        yield "POST", f"{v2}/runs/{id}:terminate", {"experiment_id"}, self._terminate
        yield "GET", f"{v2}/recurringruns", LISTS | {"experiment_id"}, self._lister("recurringRuns", self.recurring)
        yield "POST", f"{v2}/recurringruns", set(), self._create_recurring
        yield "POST", f"{v2}/recurringruns/{id}:disable", set(), self._disable_recurring
        yield "DELETE", f"{v2}/recurringruns/{id}", {"propagation_policy"}, self._delete_recurring
        if self.behind_pages:
            yield "GET", "/k8s/pod/logs", {"podname", "runid", "podnamespace", "createdat"}, self._page_log
        else:
            yield "GET", f"/apis/v1alpha1/runs/{id}/nodes/{id}/log", set(), self._log

    def _lister(self, field: str, rows: list[Json]) -> Callable[..., Json]:
        def work(query: Json, **_: Any) -> Json:
            place = self._place(query.get("namespace"))
            return self._paged(field, [row for row in rows if row.get("namespace", "") == place], query)

        return work

    def _paged(self, field: str, rows: list[Json], query: Json) -> Json:
        size = min(int(query.get("page_size", 10)), self.page)
        start = int(query.get("page_token") or 0)
        token = {"next_page_token": str(start + size)} if start + size < len(rows) else {}
        return {field: rows[start : start + size], "total_size": len(rows), **token}

    def _place(self, namespace: str | None) -> str:
        """The namespace: forbidden in single-user mode, required in multi-user mode."""
        if not self.namespaces and namespace:
            raise Refused(400, "in single-user mode there is no namespace")
        if self.namespaces and not namespace:
            raise Refused(400, "in multi-user mode a namespace is needed")
        if namespace and namespace not in self.namespaces:
            raise Refused(403, f"not allowed to use namespace {namespace}")
        return namespace or ""

    def _create_pipeline(self, query: Json, content: Content) -> Json:
        one = content.json("pipeline", "name", "display_name")
        self._only(self.pipelines, name=one["name"], namespace=self._place(one.get("namespace")))
        return self._kept(self.pipelines, "pipeline_id", one)

    def _list_versions(self, pipeline: str, query: Json, **_: Any) -> Json:
        self._one(self.pipelines, "pipeline_id", pipeline)
        return self._paged("pipeline_versions", [v for v in self.versions if v["pipeline_id"] == pipeline], query)

    def _upload_version(self, query: Json, content: Content) -> Json:
        if "name" not in query or "pipelineid" not in query:
            raise Refused(400, "name and pipelineid are required")
        self._one(self.pipelines, "pipeline_id", query["pipelineid"])
        self._only(self.versions, name=query["name"], pipeline_id=query["pipelineid"])
        documents = list(yaml.load_all(content.file("uploadfile"), yaml.CSafeLoader))
        spec = {"pipeline_spec": documents[0], "platform_spec": documents[1] if len(documents) > 1 else {}}
        one = {"pipeline_id": query["pipelineid"], "name": query["name"], "pipeline_spec": spec}
        return self._kept(
            self.versions,
            "pipeline_version_id",
            {**one, "display_name": query.get("display_name", ""), "description": query.get("description", "")},
        )

    def _create_experiment(self, query: Json, content: Content) -> Json:
        one = content.json("experiment", "display_name")
        self._only(self.experiments, display_name=one["display_name"], namespace=self._place(one.get("namespace")))
        return self._kept(self.experiments, "experiment_id", one)

    def _create_run(self, query: Json, content: Content) -> Json:
        one = content.json("run", "display_name", "runtime_config", "pipeline_version_reference", "experiment_id")
        self._check_start(one)
        script = [dict(look) for look in self.script] or [{"state": "PENDING"}]
        return self._shown(self._kept(self.runs, "run_id", {**one, "script": script, "state": "PENDING"}))

    def _check_start(self, one: Json) -> None:
        self._one(self.experiments, "experiment_id", one["experiment_id"])
        reference = one["pipeline_version_reference"]
        version = self._one(self.versions, "pipeline_version_id", reference["pipeline_version_id"])
        if version["pipeline_id"] != reference["pipeline_id"]:
            raise Refused(400, "the version belongs to another pipeline")
        wanted = set(version["pipeline_spec"]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"])
        if (given := set(one["runtime_config"]["parameters"])) != wanted:
            raise Refused(400, f"parameters missing or unknown: {sorted(given ^ wanted)}")

    def _list_runs(self, query: Json, **_: Any) -> Json:
        if "experiment_id" not in query:
            self._place(query.get("namespace"))
        runs = [r for r in self.runs if query.get("experiment_id") in (None, r["experiment_id"])]
        if query.get("sort_by") == "created_at desc":
            runs = runs[::-1]
        return self._paged("runs", [self._shown(run) for run in runs], query)

    def _get_run(self, run_id: str, **_: Any) -> Json:
        run = self._one(self.runs, "run_id", run_id)
        run.update(run["script"].pop(0) if len(run["script"]) > 1 else run["script"][0])
        return self._shown(run)

    def _terminate(self, run_id: str, **_: Any) -> Json:
        run = self._one(self.runs, "run_id", run_id)
        if run["state"] not in ("PENDING", "RUNNING", "PAUSED"):
            raise Refused(400, f"a run that is {run['state']} cannot be terminated")
        run["state"], run["script"] = "CANCELING", [{"state": "CANCELING"}, {"state": "FAILED"}]
        return {}

    def _create_recurring(self, query: Json, content: Content) -> Json:
        one = content.json("recurring_run", "display_name", "runtime_config", "trigger", "experiment_id", "mode")
        self._check_start(one)
        cron = one["trigger"]["cron_schedule"]["cron"]
        if len(cron.split()) != 6 or not 1 <= int(one["max_concurrency"]) <= 10 or one["mode"] == "MODE_UNSPECIFIED":
            raise Refused(400, "cron must have six fields, max_concurrency must be from 1 to 10, and mode must be set")
        place = self._one(self.experiments, "experiment_id", one["experiment_id"]).get("namespace", "")
        status = "ENABLED" if one["mode"] == "ENABLE" else "DISABLED"
        return self._kept(self.recurring, "recurring_run_id", {**one, "namespace": place, "status": status})

    def _disable_recurring(self, id: str, **_: Any) -> Json:
        self._one(self.recurring, "recurring_run_id", id)["status"] = "DISABLED"
        return {}

    def _delete_recurring(self, id: str, **_: Any) -> Json:
        """Delete it; Kubernetes deletes the workflows that it owns, and their runs keep their state for ever."""
        self.recurring.remove(self._one(self.recurring, "recurring_run_id", id))
        for run in self.runs:
            if run.get("recurring_run_id") == id:
                run["script"] = [{"state": run["state"]}]
        return {}

    def fire(self, recurring: Json, *script: Json) -> Json:
        """Start a run of a recurring run, as its schedule does at its time; with states, one for each GET."""
        copied = ("display_name", "experiment_id", "runtime_config", "pipeline_version_reference")
        one = {key: recurring[key] for key in copied} | {"recurring_run_id": recurring["recurring_run_id"]}
        looks = list(script) or [{"state": "RUNNING"}]
        return self._kept(self.runs, "run_id", {**one, "script": looks, "state": looks[0]["state"]})

    def _page_log(self, query: Json, **_: Any) -> str:
        """A pod's log, by the name that Argo gives a pod whose step is retried."""
        if self.namespaces and query.get("podnamespace") not in self.namespaces:
            raise Refused(422, "podnamespace argument is required")
        logs = {
            name.replace("-x7k2p-", "-x7k2p-retry-system-container-impl-"): text for name, text in self.logs.items()
        }
        if query.get("podname") not in logs:
            raise Refused(500, "Could not get main container logs")
        return logs[query["podname"]]

    def _log(self, run_id: str, node: str, **_: Any) -> str:
        """An archived log, whose reader takes a line that is a JSON object for `{"log": "..."}`."""
        self._one(self.runs, "run_id", run_id)
        if node not in self.logs:
            raise Refused(500, "Failed to read logs from archive: NoSuchKey: The specified key does not exist.")
        return "".join(_unwrapped(line) for line in self.logs[node].splitlines(keepends=True))

    @staticmethod
    def _shown(run: Json) -> Json:
        return {key: value for key, value in run.items() if key not in ("script", "namespace")}

    @staticmethod
    def _one(rows: list[Json], key: str, value: str) -> Json:
        for row in rows:
            if row[key] == value:
                return row
        raise Refused(404, f"{key} {value} not found")

    @staticmethod
    def _only(rows: list[Json], **values: str) -> None:
        if any(all(row.get(key, "") == value for key, value in values.items()) for row in rows):
            raise Refused(409, f"already exists: {values}")

    @staticmethod
    def _kept(rows: list[Json], key: str, one: Json) -> Json:
        rows.append({**one, key: str(uuid.uuid4()), "created_at": datetime.now(UTC).isoformat()})
        return rows[-1]


def _unwrapped(line: str) -> str:
    try:
        content = json.loads(line)
    except ValueError:
        return line
    return f"{content.get('log', '')}\n" if isinstance(content, dict) else line


def node(step: str, attempt: int = 0) -> str:
    """Argo's id of the node of a step's pod."""
    return f"continuous-training-x7k2p-{zlib.crc32(f'{step}({attempt})'.encode())}"


def look(state: str, error: str = "", **steps: str) -> Json:
    """One state of a run, with the tasks that the server tells of each step.

    Args:
        state: The run's state.
        error: The run's error message.
        steps: The state of each step's task; `TASK/POD` where its pod's state differs, `TASK/POD/POD` for two pods; the
            tasks of a loop, with commas between them.
    """
    began, tasks = datetime(2026, 1, 1, tzinfo=UTC), list[Json]()

    def task(name: str, state: str, children: Iterable[str] = ()) -> None:
        one: Json = {"task_id": str(uuid.uuid4()), "display_name": name, "state": state}
        one |= {"start_time": began.isoformat(), "end_time": (began + timedelta(seconds=7)).isoformat()}
        tasks.append(one | ({"child_tasks": [{"pod_name": child} for child in children]} if children else {}))

    def step(name: str, states: str, of: str) -> None:
        whole, *pods = states.split("/")
        if whole == "SKIPPED":
            task(name, whole)
            return
        pods = pods or [whole]
        task(f"{name}-driver", "SUCCEEDED", [node(f"{of}-driver")])
        task(f"{name}-driver(0)", "SUCCEEDED", [node(of)])
        task(name, whole, [f"{node(of)}-attempt"])
        task(f"{name}(0)", whole, [f"{node(of)}-executor"])
        task("executor", whole, [node(of, attempt) for attempt in range(len(pods))])
        for attempt, pod in enumerate(pods):
            task(f"executor({attempt})", pod)

    for name, states in steps.items():
        tasks_of_loop = states.split(",")
        for number, own in enumerate(tasks_of_loop):
            if len(tasks_of_loop) > 1:
                task(f"iteration-item({number}:{number})", own.partition("/")[0])
            step(name, own, f"{name} {number}" if len(tasks_of_loop) > 1 else name)
    failed = {"error": {"code": 2, "message": error}} if error else {}
    return {"state": state, "run_details": {"task_details": tasks}, **failed}
