"""A Kubeflow Pipelines server: finds or makes pipelines, versions, experiments, runs and recurring runs there."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api as api
import urllib3

from contract.errors import InputError

_SECONDS = 30  # that one answer may take
_PAGE = 50
_RETRIES = 4  # of what only asks, or never arrived
_TRIES = 3  # at making something
_TRANSIENT = (
    *(HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY),
    *(HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT),
)


class KubeflowError(InputError):
    """The server refuses, or is not there; the message says what to do."""


class TransientError(KubeflowError):
    """The server does not answer for now."""


class ThereError(KubeflowError):
    """What was to be made is there already."""


class LoginError(KubeflowError):
    """The server does not know who asks, or does not let them."""


class Kubeflow:
    """One server and one namespace; KubeflowError if it cannot be used, before anything is made."""

    def __init__(self, host: str | None, token: str | None, namespace: str | None, backoff: float = 1.0) -> None:
        self.host = _checked(host)
        configuration = api.Configuration(host=self.host)
        configuration.retries = urllib3.Retry(
            _RETRIES,
            status_forcelist=_TRANSIENT,
            allowed_methods=("GET",),  # what makes something may have arrived: _made looks before it tries again
            backoff_factor=backoff,
            redirect=0,
            raise_on_status=False,
        )
        if token:
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        self._client, self._backoff = api.ApiClient(configuration), backoff
        configuration.retries = urllib3.Retry(0, redirect=0)
        self._log_client = api.ApiClient(configuration)  # a log that is gone is a 500, for ever
        self._namespace = namespace
        health = self._call(api.HealthzServiceApi(self._client).healthz_service_get_healthz)
        if health.multi_user and not namespace:
            raise KubeflowError(
                f"{self.host} keeps each user's runs in a namespace: say which with --namespace or KFP_NAMESPACE"
            )
        self.namespace = namespace if health.multi_user else None  # a server of one user refuses any

    def ui(self, run_id: str) -> str:
        """Where a run is shown."""
        return f"{self.host}/#/runs/details/{run_id}"

    def check(self) -> None:
        """Ask for what needs the right token and namespace."""
        self._call(api.RunServiceApi(self._client).run_service_list_runs, page_size=1, **self._place)

    def pipeline(self, name: str, description: str) -> str:
        """The id of the pipeline of this name, made if there is none."""
        service = api.PipelineServiceApi(self._client)

        def find() -> Any:
            return next(self._named(service.pipeline_service_list_pipelines, "pipelines", name, **self._place), None)

        new = api.V2beta1Pipeline(name=name, display_name=name, description=description, namespace=self.namespace)
        found = find() or self._made(lambda: self._call(service.pipeline_service_create_pipeline, new), find)
        return str(found.pipeline_id)

    def version(self, pipeline_id: str, name: str, package: Path) -> str:
        """The id of the pipeline's version of this name, made of the package if there is none."""
        lister = api.PipelineServiceApi(self._client).pipeline_service_list_pipeline_versions
        upload = api.PipelineUploadServiceApi(self._client).upload_pipeline_version

        def find() -> Any:
            return next(self._named(lister, "pipeline_versions", name, pipeline_id), None)

        def make() -> Any:
            return self._call(upload, str(package), name=name, display_name=name, pipelineid=pipeline_id)

        return str((find() or self._made(make, find)).pipeline_version_id)

    def experiment(self, name: str) -> str:
        """The id of the experiment of this name, made if there is none."""
        service = api.ExperimentServiceApi(self._client)

        def find() -> Any:
            lister = service.experiment_service_list_experiments
            return next(self._named(lister, "experiments", name, **self._place), None)

        new = api.V2beta1Experiment(display_name=name, namespace=self.namespace)
        found = find() or self._made(lambda: self._call(service.experiment_service_create_experiment, new), find)
        return str(found.experiment_id)

    def find_experiment(self, name: str) -> str | None:
        """The id of the experiment of this name, if there is one."""
        lister = api.ExperimentServiceApi(self._client).experiment_service_list_experiments
        found = next(self._named(lister, "experiments", name, **self._place), None)
        return str(found.experiment_id) if found else None

    def start(self, run: api.V2beta1Run) -> str:
        """Start a run; its id. Its description is made its own, by which it is known again."""
        create = api.RunServiceApi(self._client).run_service_create_run
        run.description = f"submission {uuid.uuid4().hex}"

        def find() -> Any:
            newest = self.runs(run.experiment_id, _PAGE)
            return next((one for one in newest if one.description == run.description), None)

        return str(self._made(lambda: self._call(create, run), find).run_id)

    def run(self, run_id: str) -> Any:
        """A run as it now is."""
        return self._call(api.RunServiceApi(self._client).run_service_get_run, run_id)

    def runs(self, experiment_id: str, count: int) -> list[Any]:
        """The newest runs of an experiment."""
        lister = api.RunServiceApi(self._client).run_service_list_runs
        order = "created_at desc"
        answer = self._call(lister, experiment_id=experiment_id, page_size=count, sort_by=order, **self._place)
        return list(answer.runs or [])

    def stop(self, run_id: str) -> None:
        """Ask a run to end."""
        self._call(api.RunServiceApi(self._client).run_service_terminate_run, run_id)

    def log(self, run_id: str, pod: str) -> str:
        """What a run's pod printed; nothing if that is not kept. The path is the server's own, in no definition."""
        try:
            answer = self._call(
                self._log_client.call_api,
                "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log",
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

    def recurring(self, name: str) -> list[Any]:
        """The recurring runs of this name."""
        lister = api.RecurringRunServiceApi(self._client).recurring_run_service_list_recurring_runs
        return list(self._named(lister, "recurring_runs", name, **self._place))

    def start_recurring(self, run: api.V2beta1RecurringRun) -> str:
        """Make a recurring run; its id."""
        create = api.RecurringRunServiceApi(self._client).recurring_run_service_create_recurring_run
        before = {one.recurring_run_id for one in self.recurring(run.display_name)}

        def find() -> Any:
            now = self.recurring(run.display_name)
            return next((one for one in now if one.recurring_run_id not in before), None)

        return str(self._made(lambda: self._call(create, run), find).recurring_run_id)

    def stop_recurring(self, recurring_run_id: str) -> None:
        """Remove a recurring run; the runs that it started stay."""
        service = api.RecurringRunServiceApi(self._client)
        self._call(service.recurring_run_service_delete_recurring_run, recurring_run_id)

    @property
    def _place(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _named(self, lister: Callable[..., Any], field: str, name: str, *place: str, **where: str) -> Iterator[Any]:
        """Everything of this name in a list, over all its pages."""
        token = ""
        while True:
            answer = self._call(lister, *place, page_size=_PAGE, page_token=token, **where)
            yield from (one for one in getattr(answer, field) or () if name in (one.display_name, _name(one)))
            token = answer.next_page_token or ""
            if not token:
                return

    def _made(self, make: Callable[[], Any], find: Callable[[], Any]) -> Any:
        """Make something, trying again after trouble, unless it then turns out to have been made."""
        for pause in (self._backoff * 2**count for count in range(_TRIES)):
            try:
                return make()
            except (TransientError, ThereError) as error:
                trouble = error
            time.sleep(pause)
            if (found := find()) is not None:
                return found
            if isinstance(trouble, ThereError):
                break
        raise trouble

    def _call(self, function: Callable[..., Any], *values: Any, **options: Any) -> Any:
        with self._explained():
            return function(*values, **options, _request_timeout=_SECONDS)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(
                f"{self.host} does not answer ({_reason(error)}): see that the server runs and that --host or KFP_HOST "
                "is its address"
            ) from error
        except api.ApiException as error:
            raise self._refusal(error) from error

    def _refusal(self, error: api.ApiException) -> KubeflowError:
        said = f"{error.status}: {_message(error)}"
        match error.status:
            case HTTPStatus.UNAUTHORIZED:
                return LoginError(f"{self.host} does not accept the token ({said}): set KFP_TOKEN to one that is valid")
            case HTTPStatus.FORBIDDEN:
                return LoginError(
                    f"{self.host} does not let this token use the namespace {self._namespace!r} ({said}): set "
                    "KFP_NAMESPACE to one that exists, or ask for access to it"
                )
            case HTTPStatus.NOT_FOUND:
                return KubeflowError(
                    f"{self.host} does not have what was asked for ({said}): see that --host or KFP_HOST is the "
                    "address of a Kubeflow Pipelines server"
                )
            case HTTPStatus.CONFLICT:
                return ThereError(f"{self.host} has that already ({said}): give the project another name")
            case status if status and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                return TransientError(f"{self.host} is in trouble ({said}): try again, or look at its log")
        return KubeflowError(f"{self.host} refuses the request ({said})")


def _checked(host: str | None) -> str:
    if not host:
        raise KubeflowError(
            "there is no Kubeflow host to use: give its address with --host or KFP_HOST, such as https://kubeflow.example/pipeline"
        )
    try:
        parts = urlsplit(host)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or True)
    except ValueError:
        known = False
    if not known:
        raise KubeflowError(f"the Kubeflow host is {host!r}; it must be an address such as https://kubeflow.example")
    return host.rstrip("/")


def _name(one: Any) -> str | None:
    return getattr(one, "name", None)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).rpartition(": ")[2]


def _message(error: api.ApiException) -> str:
    try:
        content = json.loads(error.body)
        return str(content.get("message") or content.get("error") or error.reason)
    except (TypeError, ValueError, AttributeError):
        return str(error.reason)
