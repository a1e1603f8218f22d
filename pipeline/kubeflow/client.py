"""A Kubeflow Pipelines server: finds and creates pipelines, versions, experiments, runs and recurring runs.

Creation is idempotent: a request whose answer was lost is not sent again if the object then exists.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import kfp_server_api as api

from pipeline.kubeflow.errors import (
    AlreadyExistsError,
    KubeflowError,
    LoginError,
    TransientError,
    foreign,
    refusal,
    unanswered,
)
from steps.common.http import (
    LONGEST_WAIT_SECONDS,
    ForeignAnswerError,
    Http,
    NoAnswerError,
    content,
    is_elsewhere,
    parted,
    secret,
)

_PAGE_SIZE = 50
_TRIES = 3  # of a request that changes something
_POD_TEMPLATES = ("retry-system-container-impl", "system-container-impl")  # with retries, and without; in pods' names
_FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
_IN_PROGRESS = (None, "PENDING", "RUNNING", "PAUSED", "CANCELING")


class Kubeflow:
    """One server, and one namespace of it.

    Every method raises KubeflowError, or a class below it, if the server refuses or does not answer.
    """

    def __init__(
        self,
        host: str | None,
        token: str | None,
        namespace: str | None,
        *,
        backoff: float = 1.0,
        retries: int = 4,
        seconds: float = 30.0,
    ) -> None:
        """Connect to a server, and ask for its health.

        Args:
            host: The server's address, with user and password if it asks for them and there is no token.
            token: A bearer token; None on a server without authentication.
            namespace: The user's namespace on a multi-user server.
            backoff: Seconds before the first retry; doubled for each further one.
            retries: How often a request is repeated that reads.
            seconds: The most to wait for an answer.

        Raises:
            KubeflowError: The server cannot be used, or it needs a namespace.
            AddressError: The address or the token is none.
        """
        if not (host or "").strip():
            raise KubeflowError(
                "there is no Kubeflow host: give its address with --host or KFP_HOST, such as "
                "https://kubeflow.example/pipeline"
            )
        self.host, login = parted("the Kubeflow host", host or "")
        self._backoff, self._given_namespace = backoff, (namespace or "").strip() or None
        bearer = secret("KFP_TOKEN", token)
        self._http = Http(token=bearer, login=login, backoff=backoff, retries=retries, seconds=seconds)
        # A log that is deleted is a 500, so a retry is useless.
        self._log_http = Http(token=bearer, login=login, retries=0, seconds=seconds)
        self._client = _Client(self.host, self._given_namespace, self._http)
        health = self._call(api.HealthzServiceApi(self._client).healthz_service_get_healthz)
        if health.multi_user and not self._given_namespace:
            raise KubeflowError(
                f"{self.host} is a multi-user server, and no namespace is given: set --namespace or KFP_NAMESPACE"
            )
        self.namespace = self._given_namespace if health.multi_user else None  # a single-user server refuses one

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
            answer = self._log_http.request("GET", f"{self.host}/")
        except NoAnswerError:
            return True
        return answer.is_success and not is_elsewhere(answer) and "html" in answer.headers.get("Content-Type", "")

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
        return self._id(found.pipeline_id)

    def version(self, pipeline_id: str, name: str, package: Path, description: str) -> str:
        """The id of the pipeline's version of this name, created from the package if there is none."""
        lister = api.PipelineServiceApi(self._client).pipeline_service_list_pipeline_versions
        upload = api.PipelineUploadServiceApi(self._client).upload_pipeline_version

        def find() -> Any:
            return next(self._list(lister, "pipeline_versions", name, pipeline_id), None)

        def create() -> Any:
            return self._call(
                upload,
                str(package),
                name=name,
                display_name=name,
                description=description,
                pipelineid=pipeline_id,
            )

        return self._id((find() or self._create(create, find)).pipeline_version_id)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, created if there is none."""
        create = api.ExperimentServiceApi(self._client).experiment_service_create_experiment

        def find() -> Any:
            return next(self._experiments(name), None)

        new = api.V2beta1Experiment(display_name=name, namespace=self.namespace)
        found = find() or self._create(lambda: self._call(create, new), find)
        return self._id(found.experiment_id)

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

        return self._id(self._create(lambda: self._call(create, run), find).run_id)

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
        terminate = api.RunServiceApi(self._client).run_service_terminate_run
        self._persist(lambda: self._call(terminate, run_id))

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
        return self._log(f"{self.host}/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log")  # not in the published API

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
            if log := self._log(f"{self.host}/k8s/pod/logs", query):
                return log
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

        return self._id(self._create(lambda: self._call(create, run), find).recurring_run_id)

    def disable_recurring(self, recurring_run_id: str) -> None:
        """Let a recurring run start no further run; its run in progress goes on."""
        disable = api.RecurringRunServiceApi(self._client).recurring_run_service_disable_recurring_run
        self._persist(lambda: self._call(disable, recurring_run_id))

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
        delete = api.RecurringRunServiceApi(self._client).recurring_run_service_delete_recurring_run
        self._persist(lambda: self._call(delete, recurring_run_id))

    def _log(self, place: str, query: dict[str, str] | None = None) -> str:
        """The log at an address; empty if there is none."""
        try:
            answer = self._log_http.request("GET", place, params=query)
        except NoAnswerError:
            return ""
        if is_elsewhere(answer) or "html" in answer.headers.get("Content-Type", ""):
            return ""  # the server of Kubeflow's pages answers any place that it does not know with its first page
        if answer.is_error:
            error = refusal(self.host, self._given_namespace, answer)
            if isinstance(error, LoginError):
                raise error
            return ""
        return answer.text

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
        for pause in self._pauses():
            try:
                return create()
            except (TransientError, AlreadyExistsError) as error:
                failure = error
            time.sleep(max(pause, min(failure.retry_after, LONGEST_WAIT_SECONDS)))
            if (found := find()) is not None:
                return found
            if isinstance(failure, AlreadyExistsError):
                break
        raise failure

    def _persist(self, change: Callable[[], Any]) -> None:
        """Change an object, with retries; one that is refused after an attempt without an answer is done."""
        failure: TransientError | None = None
        for pause in self._pauses():
            try:
                change()
            except TransientError as error:
                failure = error
                time.sleep(max(pause, min(failure.retry_after, LONGEST_WAIT_SECONDS)))
                continue
            except LoginError:
                raise
            except KubeflowError:
                if failure is None:
                    raise
            return
        if failure is not None:
            raise failure

    def _pauses(self) -> Iterator[float]:
        return (self._backoff * 2**count for count in range(_TRIES))

    def _call(self, function: Callable[..., Any], *values: Any, **options: Any) -> Any:
        try:
            return function(*values, **options)
        except (api.OpenApiException, ValueError, TypeError, AttributeError) as error:
            raise foreign(self.host, "JSON of another form than the API's") from error

    def _id(self, id: str | None) -> str:
        """The id of an object in an answer; KubeflowError if the answer has none."""
        if not id:
            raise foreign(self.host, "JSON without the object that was asked for")
        return id


class _Client(api.ApiClient):  # type: ignore[misc]
    """The generated client of the API, which sends its requests by `Http`."""

    def __init__(self, host: str, namespace: str | None, http: Http) -> None:
        super().__init__(api.Configuration(host=host))
        self._host, self._namespace, self._http = host, namespace, http

    def request(
        self,
        method: str,
        url: str,
        query_params: Any = None,
        headers: Any = None,
        post_params: Any = None,
        body: Any = None,
        **_: Any,
    ) -> "_Answer":
        # The headers are those of the content, which httpx sets, and Accept.
        more = {"files": post_params} if post_params else {"json": body} if body is not None else {}
        try:
            answer = self._http.request(method, url, params=query_params or None, **more)
            if answer.is_error or is_elsewhere(answer):
                raise refusal(self._host, self._namespace, answer)
            content(answer)
        except NoAnswerError as error:
            raise unanswered(self._host, error) from error
        except ForeignAnswerError as error:
            raise foreign(self._host, error) from error
        return _Answer(answer)


class _Answer:
    """An answer as the generated client takes it."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status, self.reason, self.data = answer.status_code, answer.reason_phrase, answer.content
        self.getheader, self.getheaders = answer.headers.get, lambda: answer.headers
