"""A Kubeflow Pipelines server: finds and creates pipelines, versions, experiments, runs and recurring runs.

Creation is idempotent: a request whose answer was lost is not sent again if the object then exists.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api as api
import urllib3

from pipeline.kubeflow.errors import AlreadyExistsError, KubeflowError, LoginError, TransientError, translated

_TIMEOUT_SECONDS = 30  # of one request
_PAGE_SIZE = 50
_READ_RETRIES = 4
_CREATE_TRIES = 3
_POD_TEMPLATES = ("retry-system-container-impl", "system-container-impl")  # with retries, and without; in pods' names
_FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
_IN_PROGRESS = (None, "PENDING", "RUNNING", "PAUSED", "CANCELING")
_TRANSIENT_STATUSES = (
    *(HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY),
    *(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT),
)


class Kubeflow:
    """One server, and one namespace of it.

    Every method raises KubeflowError, or a class below it, if the server refuses or does not answer.
    """

    def __init__(self, host: str | None, token: str | None, namespace: str | None, backoff: float = 1.0) -> None:
        """Connect to a server, and ask for its health.

        Args:
            host: The server's address.
            token: A bearer token; None on a server without authentication.
            namespace: The user's namespace on a multi-user server.
            backoff: Seconds before the first retry; doubled for each further one.

        Raises:
            KubeflowError: The address is wrong, the server cannot be used, or it needs a namespace.
        """
        self.host = _checked_host(host)
        configuration = api.Configuration(host=self.host)
        configuration.retries = urllib3.Retry(
            _READ_RETRIES,
            status_forcelist=_TRANSIENT_STATUSES,
            allowed_methods=("GET",),  # a POST may have succeeded: _create looks before it retries
            backoff_factor=backoff,
            redirect=0,
            raise_on_status=False,
        )
        if token:
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        self._client, self._backoff = api.ApiClient(configuration), backoff
        configuration.retries = urllib3.Retry(0, redirect=0)
        self._log_client = api.ApiClient(configuration)  # a log that is deleted is a 500, so a retry is useless
        self._given_namespace = namespace
        health = self._call(api.HealthzServiceApi(self._client).healthz_service_get_healthz)
        if health.multi_user and not namespace:
            raise KubeflowError(
                f"{self.host} is a multi-user server, and no namespace is given: set --namespace or KFP_NAMESPACE"
            )
        self.namespace = namespace if health.multi_user else None  # a single-user server refuses a namespace

    def ui(self, run_id: str) -> str:
        """The address of a run's page; or how to reach it, where the host serves the API alone."""
        page = f"#/runs/details/{run_id}"
        if self._has_pages:
            return f"{self.host}/{page}"
        return f"run {run_id}; {_FORWARD} shows it at http://localhost:8080/{page}"

    @cached_property
    def _has_pages(self) -> bool:
        """Whether the host serves Kubeflow's pages; if it does not answer now, the address of one is still the best."""
        try:
            answer = self._call(
                self._log_client.call_api, "/", "GET", _preload_content=False, _return_http_data_only=True
            )
        except TransientError:
            return True
        except KubeflowError:
            return False
        return "html" in answer.headers.get("Content-Type", "")

    def check(self) -> None:
        """Send a request that needs a valid token and namespace."""
        self._call(api.RunServiceApi(self._client).run_service_list_runs, page_size=1, **self._scope)

    def pipeline(self, name: str, description: str) -> str:
        """The id of the pipeline of this name, created if there is none."""
        service = api.PipelineServiceApi(self._client)

        def find() -> Any:
            return next(self._list(service.pipeline_service_list_pipelines, "pipelines", name, **self._scope), None)

        new = api.V2beta1Pipeline(name=name, display_name=name, description=description, namespace=self.namespace)
        found = find() or self._create(lambda: self._call(service.pipeline_service_create_pipeline, new), find)
        return str(found.pipeline_id)

    def version(self, pipeline_id: str, name: str, package: Path) -> str:
        """The id of the pipeline's version of this name, created from the package if there is none."""
        lister = api.PipelineServiceApi(self._client).pipeline_service_list_pipeline_versions
        upload = api.PipelineUploadServiceApi(self._client).upload_pipeline_version

        def find() -> Any:
            return next(self._list(lister, "pipeline_versions", name, pipeline_id), None)

        def create() -> Any:
            return self._call(upload, str(package), name=name, display_name=name, pipelineid=pipeline_id)

        return str((find() or self._create(create, find)).pipeline_version_id)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, created if there is none."""
        create = api.ExperimentServiceApi(self._client).experiment_service_create_experiment

        def find() -> Any:
            return next(self._experiments(name), None)

        new = api.V2beta1Experiment(display_name=name, namespace=self.namespace)
        found = find() or self._create(lambda: self._call(create, new), find)
        return str(found.experiment_id)

    def find_experiment(self, name: str) -> str | None:
        """The id of the experiment of this name; None if there is none."""
        found = next(self._experiments(name), None)
        return str(found.experiment_id) if found else None

    def start(self, run: api.V2beta1Run) -> str:
        """Start a run, and return its id. A unique description makes the creation idempotent."""
        create = api.RunServiceApi(self._client).run_service_create_run
        run.description = f"submission {uuid.uuid4().hex}"

        def find() -> Any:
            newest = self.runs(run.experiment_id, _PAGE_SIZE)
            return next((each for each in newest if each.description == run.description), None)

        return str(self._create(lambda: self._call(create, run), find).run_id)

    def run(self, run_id: str) -> Any:
        """The present state of a run."""
        return self._call(api.RunServiceApi(self._client).run_service_get_run, run_id)

    def runs(self, experiment_id: str, count: int) -> list[Any]:
        """The newest runs of an experiment, the newest first."""
        lister = api.RunServiceApi(self._client).run_service_list_runs
        order = "created_at desc"
        answer = self._call(lister, experiment_id=experiment_id, page_size=count, sort_by=order, **self._scope)
        return list(answer.runs or [])

    def stop(self, run_id: str) -> None:
        """Terminate a run."""
        self._call(api.RunServiceApi(self._client).run_service_terminate_run, run_id)

    def log(self, run_id: str, pod: str) -> str:
        """The log of a run's pod.

        Args:
            run_id: The run.
            pod: The pod's name, or Argo's id of its node.

        Returns:
            The log; empty if the server has none.

        Raises:
            LoginError: The token is no longer valid.
        """
        try:
            answer = self._call(
                self._log_client.call_api,
                "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log",  # not in the published API
                "GET",
                path_params={"run_id": run_id, "node_id": pod},
                auth_settings=["Bearer"],
                _preload_content=False,
                _return_http_data_only=True,
            )
        except LoginError:
            raise
        except KubeflowError:
            return ""
        return str(answer.data.decode("utf-8", "replace"))

    def page_log(self, run_id: str, node: str) -> str:
        """The log of a run's pod from the server of Kubeflow's pages, which passes on no request for a node's log.

        Args:
            run_id: The run.
            node: Argo's id of the pod's node.

        Returns:
            The log; empty if the host serves no pages, or they have none.

        Raises:
            LoginError: The token is no longer valid.
        """
        workflow, _, number = node.rpartition("-")
        for template in _POD_TEMPLATES if self._has_pages else ():
            query = {"podname": f"{workflow}-{template}-{number}", "runid": run_id}
            query |= {"podnamespace": self.namespace} if self.namespace else {}
            try:
                answer = self._call(
                    self._log_client.call_api,
                    "/k8s/pod/logs",
                    "GET",
                    query_params=list(query.items()),
                    auth_settings=["Bearer"],
                    _preload_content=False,
                    _return_http_data_only=True,
                )
            except LoginError:
                raise
            except KubeflowError:
                continue
            return str(answer.data.decode("utf-8", "replace"))
        return ""

    def recurring(self, name: str) -> list[Any]:
        """The recurring runs of this name."""
        lister = api.RecurringRunServiceApi(self._client).recurring_run_service_list_recurring_runs
        return list(self._list(lister, "recurring_runs", name, **self._scope))

    def start_recurring(self, run: api.V2beta1RecurringRun) -> str:
        """Create a recurring run, and return its id."""
        create = api.RecurringRunServiceApi(self._client).recurring_run_service_create_recurring_run
        before = {each.recurring_run_id for each in self.recurring(run.display_name)}

        def find() -> Any:
            now = self.recurring(run.display_name)
            return next((each for each in now if each.recurring_run_id not in before), None)

        return str(self._create(lambda: self._call(create, run), find).recurring_run_id)

    def disable_recurring(self, recurring_run_id: str) -> None:
        """Let a recurring run start no further run; its run in progress goes on."""
        service = api.RecurringRunServiceApi(self._client)
        self._call(service.recurring_run_service_disable_recurring_run, recurring_run_id)

    def runs_in_progress(self, experiment_id: str, recurring_run_id: str) -> list[str]:
        """The ids of the runs of a recurring run that have not ended."""
        lister, token, found = api.RunServiceApi(self._client).run_service_list_runs, "", list[str]()
        while True:
            answer = self._call(
                lister, experiment_id=experiment_id, page_size=_PAGE_SIZE, page_token=token, **self._scope
            )
            for run in answer.runs or ():
                if run.recurring_run_id == recurring_run_id and run.state in _IN_PROGRESS:
                    found.append(str(run.run_id))
            token = answer.next_page_token or ""
            if not token:
                return found

    def stop_recurring(self, recurring_run_id: str) -> None:
        """Delete a recurring run; Kubernetes deletes the workflow of its run in progress with it."""
        service = api.RecurringRunServiceApi(self._client)
        self._call(service.recurring_run_service_delete_recurring_run, recurring_run_id)

    @property
    def _scope(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _experiments(self, name: str) -> Iterator[Any]:
        lister = api.ExperimentServiceApi(self._client).experiment_service_list_experiments
        return self._list(lister, "experiments", name, **self._scope)

    def _list(self, lister: Callable[..., Any], field: str, name: str, *parents: str, **scope: str) -> Iterator[Any]:
        """Every object of this name, from all pages of a list."""
        token = ""
        while True:
            answer = self._call(lister, *parents, page_size=_PAGE_SIZE, page_token=token, **scope)
            objects = getattr(answer, field) or ()
            yield from (each for each in objects if name in (each.display_name, getattr(each, "name", None)))
            token = answer.next_page_token or ""
            if not token:
                return

    def _create(self, create: Callable[[], Any], find: Callable[[], Any]) -> Any:
        """Create an object, with retries; between them, look whether an attempt without an answer has created it."""
        for pause in (self._backoff * 2**count for count in range(_CREATE_TRIES)):
            try:
                return create()
            except (TransientError, AlreadyExistsError) as error:
                failure = error
            time.sleep(pause)
            if (found := find()) is not None:
                return found
            if isinstance(failure, AlreadyExistsError):
                break
        raise failure

    def _call(self, function: Callable[..., Any], *values: Any, **options: Any) -> Any:
        with translated(self.host, self._given_namespace):
            return function(*values, **options, _request_timeout=_TIMEOUT_SECONDS)


def _checked_host(host: str | None) -> str:
    if not host:
        raise KubeflowError(
            "there is no Kubeflow host: give its address with --host or KFP_HOST, such as https://kubeflow.example/pipeline"
        )
    try:
        parts = urlsplit(host)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise KubeflowError(f"the Kubeflow host is {host!r}; it must be an address such as https://kubeflow.example")
    return host.rstrip("/")
