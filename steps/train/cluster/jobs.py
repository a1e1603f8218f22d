"""TrainJobs in the Kubernetes API: creates, reads and deletes them, and reads their pods and logs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import urllib3
from kubernetes import client

from steps.common.cluster.api import REQUEST_SECONDS, TRANSIENT, NoClusterError, connect
from steps.common.errors import StepError

_GROUP, _VERSION, _PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
_OF_JOB = "jobset.sigs.k8s.io/jobset-name"  # label of a job's pods, which Trainer makes as a JobSet of the same name
_NUMBER = "batch.kubernetes.io/job-completion-index"  # label and annotation of a pod: its node's number, from 0
_CONTAINER = "node"
_REMEDY = "set kubeflow.train to {nodes: 1, gpus_per_node: 0} in project.yaml"


class TrainJobError(StepError):
    """The API refuses a request; the message says why, and what to do."""


class UnreachableError(TrainJobError):
    """The Kubernetes API does not answer at the moment."""


class TrainJobs:
    """The TrainJobs of one namespace."""

    def __init__(self, namespace: str) -> None:
        """Connect to the cluster of this pod; TrainJobError if this is none."""
        self.namespace = namespace
        try:  # a conflict is no trouble: the job is there
            api = connect(tuple(status for status in TRANSIENT if status != HTTPStatus.CONFLICT))
        except NoClusterError as error:
            raise TrainJobError(f"TRAIN_JOB is set, but this is no pod ({error}): unset it") from error
        self._jobs, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._place = (_GROUP, _VERSION, namespace, _PLURAL)

    def find(self, name: str) -> dict[str, Any] | None:
        """The job of this name, as the API returns it; None if there is none."""
        try:
            with self._explained("get", _PLURAL, name):
                found: dict[str, Any] = self._jobs.get_namespaced_custom_object(
                    *self._place, name, _request_timeout=REQUEST_SECONDS
                )
        except _MissingError:
            return None
        return found

    def create(self, job: dict[str, Any]) -> None:
        """Create a job, unless there is one of its name."""
        with self._explained("create", _PLURAL, job["metadata"]["name"]):
            self._jobs.create_namespaced_custom_object(*self._place, job, _request_timeout=REQUEST_SECONDS)

    def delete(self, name: str) -> None:
        """Delete a job and its pods, if it is there."""
        try:
            with self._explained("delete", _PLURAL, name):
                self._jobs.delete_namespaced_custom_object(
                    *self._place, name, propagation_policy="Foreground", _request_timeout=REQUEST_SECONDS
                )
        except _MissingError:
            return

    def pods(self, name: str) -> dict[int, Any]:
        """The newest pod of each of a job's nodes, by its number, as the client gives it."""
        with self._explained("list", "pods", name):
            found = self._core.list_namespaced_pod(
                self.namespace, label_selector=f"{_OF_JOB}={name}", _request_timeout=REQUEST_SECONDS
            ).items
        found.sort(key=lambda pod: str(pod.metadata.creation_timestamp))
        return {int(number): pod for pod in found if (number := _number(pod)) is not None}

    def owners(self, pod: str) -> list[dict[str, str]]:
        """What owns a pod: with it Kubernetes deletes the pod, and may delete a job."""
        with self._explained("list", "pods", pod):
            found = self._core.list_namespaced_pod(
                self.namespace, field_selector=f"metadata.name={pod}", _request_timeout=REQUEST_SECONDS
            ).items
        references = [reference for each in found for reference in each.metadata.owner_references or ()]
        return [{"apiVersion": r.api_version, "kind": r.kind, "name": r.name, "uid": r.uid} for r in references]

    def log(self, pod: str, *, previous: bool = False) -> list[str]:
        """The lines of a pod's log; none if it has not begun. `previous` is that of before its container's restart."""
        try:
            with self._explained("get", "pods/log", pod):
                text: str = self._core.read_namespaced_pod_log(
                    pod, self.namespace, container=_CONTAINER, previous=previous, _request_timeout=REQUEST_SECONDS
                )
        except _NoLogError:
            return []
        return text.splitlines()

    @contextmanager
    def _explained(self, verb: str, resource: str, name: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            if verb == "create" and error.status == HTTPStatus.CONFLICT:
                return
            raise self._refusal(error, verb, resource, name) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"the Kubernetes API does not answer ({error}): run again once it does") from error

    def _refusal(self, error: Any, verb: str, resource: str, name: str) -> TrainJobError:
        told, of = _content(error)
        match error.status:
            case HTTPStatus.NOT_FOUND if of == name and resource == _PLURAL:
                return _MissingError(told)
            case HTTPStatus.NOT_FOUND | HTTPStatus.BAD_REQUEST if resource == "pods/log":
                return _NoLogError(told)  # the pod is gone, or its container has not started
            case HTTPStatus.NOT_FOUND:
                return TrainJobError(
                    f"the cluster has no TrainJobs: install Kubeflow Trainer 2.2 or later, or {_REMEDY}"
                )
            case HTTPStatus.FORBIDDEN if "denied the request" in told:  # by Trainer's own admission webhook, or another
                return TrainJobError(f"the cluster refuses the TrainJob: {told}")
            case HTTPStatus.FORBIDDEN:
                return TrainJobError(
                    f"this account may not {verb} {resource} in namespace {self.namespace} ({told}), which "
                    "components/training of infra/pv-pvc allows: uncomment it in infra/pv-pvc/kustomization.yaml, and "
                    f"kubectl apply -k infra/pv-pvc; or {_REMEDY}"
                )
        kind = UnreachableError if error.status in TRANSIENT else TrainJobError
        return kind(f"the Kubernetes API answers {error.status} to {verb} {resource} in {self.namespace}: {told}")


class _MissingError(TrainJobError):
    """There is no such job."""


class _NoLogError(TrainJobError):
    """There is no log yet, or no more."""


def _content(error: Any) -> tuple[str, str]:
    """The message of an answer, and the name of the object that it is about."""
    try:
        said = json.loads(error.body)
        return str(said["message"]), str((said.get("details") or {}).get("name", ""))
    except (ValueError, LookupError, TypeError):
        return str(error.reason), ""


def _number(pod: Any) -> str | None:
    labels, annotations = pod.metadata.labels or {}, pod.metadata.annotations or {}
    number: str | None = labels.get(_NUMBER, annotations.get(_NUMBER))
    return number
