"""The Deployment that serves, in the Kubernetes API: reads it and its pods, patches its pod template.

This is the one module of the step that imports `kubernetes`.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import urllib3
from kubernetes import client

from contract.cluster import SERVING
from contract.journal import Template
from steps.common.cluster.api import REQUEST_SECONDS, TRANSIENT, NoClusterError, connect
from steps.common.cluster.pods import reason
from steps.common.errors import StepError

STAMP = "continuous-training/model-version"
_APPLY = "kubectl apply -k infra/torchserve"


class RolloutError(StepError):
    """The Deployment could not be brought to a version; the message says why, and what to do."""


class UnreachableError(RolloutError):
    """The Kubernetes API does not answer at the moment."""


class Deployment:
    """One Deployment."""

    def __init__(self, namespace: str, name: str) -> None:
        """Connect to the cluster of this pod, or else of kubectl's settings.

        Args:
            namespace: the Deployment's.
            name: the Deployment's.

        Raises:
            RolloutError: neither names a cluster.
        """
        self.namespace, self.name = namespace, name
        try:
            # A patch is idempotent, so it may be sent again after it was lost or its answer was.
            api = connect()
        except NoClusterError as error:
            raise RolloutError(
                f"SERVING_NAMESPACE is {namespace}, but this is no pod, and kubectl's settings name no cluster "
                f"({error}): choose one, or unset SERVING_NAMESPACE to leave serving alone"
            ) from error
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)

    def template(self) -> Template:
        """Read the pod template.

        Returns:
            Version and image that it names.

        Raises:
            RolloutError: the Deployment has no container of the name that it needs.
        """
        template = self.read().spec.template
        image = next((one.image for one in template.spec.containers if one.name == SERVING), None)
        if image is None:
            raise RolloutError(
                f"Deployment {self.name} in namespace {self.namespace} has no container {SERVING}: {_APPLY}"
            )
        return Template((template.metadata.annotations or {}).get(STAMP), image)

    def patch(self, template: Template) -> None:
        """Write version and image into the pod template; RolloutError if the Deployment cannot be changed."""
        pod = {
            "metadata": {"annotations": {STAMP: template.version}},
            "spec": {"containers": [{"name": SERVING, "image": template.image}]},
        }
        with self._explained("patch", "deployments"):
            self._apps.patch_namespaced_deployment(
                self.name, self.namespace, {"spec": {"template": pod}}, _request_timeout=REQUEST_SECONDS
            )

    def reasons(self, version: str | None, labels: Mapping[str, str]) -> str:
        """Why pods of the version are not ready, if this account may list pods."""
        try:
            with self._explained("list", "pods"):
                pods = self._core.list_namespaced_pod(
                    self.namespace,
                    label_selector=",".join(f"{key}={value}" for key, value in labels.items()),
                    _request_timeout=REQUEST_SECONDS,
                ).items
        except RolloutError as error:
            return str(error)
        of_version = [pod for pod in pods if (pod.metadata.annotations or {}).get(STAMP) == version]
        said = {f"{pod.metadata.name} {why}" for pod in of_version if (why := reason(pod))}
        return "; ".join(sorted(said))

    def read(self) -> Any:
        """The Deployment, as the client gives it; RolloutError if there is none, or the API refuses or is away."""
        with self._explained("get", "deployments"):
            return self._apps.read_namespaced_deployment(self.name, self.namespace, _request_timeout=REQUEST_SECONDS)

    @contextmanager
    def _explained(self, verb: str, resource: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            kind = UnreachableError if error.status in TRANSIENT else RolloutError
            raise kind(self._refusal(error, verb, resource)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(
                f"the Kubernetes API does not answer ({error}): run again once it does, which goes on from here"
            ) from error

    def _refusal(self, error: Any, verb: str, resource: str) -> str:
        place = f"namespace {self.namespace}"
        match error.status:
            case HTTPStatus.NOT_FOUND:
                return (
                    f"{place} has no Deployment {self.name}: {_APPLY}, or kubeflow.serving_namespace: null in "
                    "project.yaml to leave serving alone"
                )
            case HTTPStatus.FORBIDDEN:
                return f"this account may not {verb} {resource} in {place}, which the Role rollout allows: {_APPLY}"
            case HTTPStatus.UNAUTHORIZED:
                return "the Kubernetes API does not accept this token: is the pod's service account still there?"
        try:
            told = json.loads(error.body)["message"]
        except (ValueError, KeyError, TypeError):
            told = error.reason
        return f"the Kubernetes API answers {error.status} to {verb} {resource} in {place}: {told}"
