"""Rolls the Deployment that serves to a version: changes its pod template, waits for its pods, asks its Service.

Reads the archive's golden predictions; uses `kubernetes`, which is imported here alone.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from contract.environment import Environment
from contract.events import Progress
from serving.golden import GoldenError, read_golden
from steps.common.errors import StepError
from steps.common.events import emit
from steps.deploy.release.service import ask

NAME = "torchserve"  # of the Deployment, its container and its Service, in infra/torchserve
STAMP = "continuous-training/model-version"
BACKOFF_SECONDS = 0.5
POLL_SECONDS = 2.0
ROLLOUT_SECONDS = 1800.0  # the Deployment's own deadline, progressDeadlineSeconds, is what ends a stuck rollout
_REQUEST_SECONDS = 30
_RETRIES = 6
_TRANSIENT = (409, 429, 500, 502, 503, 504)
_APPLY = "kubectl apply -k infra/torchserve"


class RolloutError(StepError):
    """The Deployment was not brought to the version; the message says why, and what to do."""


class UnreachableError(RolloutError):
    """The Kubernetes API does not answer for now."""


class Rollout:
    """The Deployment of one namespace, and the address of its Service; RolloutError if there is no cluster."""

    def __init__(self, namespace: str, url: str) -> None:
        self.namespace, self.url = namespace, url.rstrip("/")
        settings = client.Configuration()
        try:
            config.load_incluster_config(settings)
        except config.ConfigException:
            try:
                config.load_kube_config(Environment().kubeconfig, client_configuration=settings)
            except config.ConfigException as error:
                raise RolloutError(
                    f"SERVING_NAMESPACE is {namespace}, but this is no pod, and kubectl's settings name no cluster "
                    f"({error}): choose one, or unset SERVING_NAMESPACE to leave serving alone"
                ) from error
        # What is sent again is the same patch, so a request that got through unanswered does no harm.
        settings.retries = urllib3.Retry(
            _RETRIES,
            status_forcelist=_TRANSIENT,
            allowed_methods=None,
            backoff_factor=BACKOFF_SECONDS,
            raise_on_status=False,
            redirect=0,
        )
        api = client.ApiClient(settings)
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)

    def template(self) -> dict[str, Any]:
        """Version and image that the pod template says; the version is None if it was never stamped."""
        template = self._get().spec.template
        image = next((one.image for one in template.spec.containers if one.name == NAME), None)
        if image is None:
            raise RolloutError(f"Deployment {NAME} in namespace {self.namespace} has no container {NAME}: {_APPLY}")
        return {"version": (template.metadata.annotations or {}).get(STAMP), "image": image}

    def roll(self, name: str, version: str, image: str | None, mar: Path) -> bool:
        """Bring every pod to the version and hold the Service's answers against the archive's; True if pods changed.

        Without an image the pods keep theirs.
        """
        try:
            golden = read_golden(mar)
        except GoldenError as error:
            raise RolloutError(str(error)) from error
        found = self.template()
        wanted = {"version": version, "image": image or found["image"]}
        if found != wanted:
            self.set_template(wanted)
        pods = self.wait(version)
        ask(f"{self.url}/predictions/{name}", golden, pods)
        return found != wanted

    def restore(self, template: dict[str, Any]) -> bool:
        """Write what `template()` gave, where the Deployment has another by now; True if it had."""
        if self.template() == template:
            return False
        self.set_template(template)
        return True

    def set_template(self, template: dict[str, Any]) -> None:
        """Write what `template()` gives."""
        pod = {
            "metadata": {"annotations": {STAMP: template["version"]}},
            "spec": {"containers": [{"name": NAME, "image": template["image"]}]},
        }
        with self._explained("patch", "deployments"):
            self._apps.patch_namespaced_deployment(
                NAME, self.namespace, {"spec": {"template": pod}}, _request_timeout=_REQUEST_SECONDS
            )

    def wait(self, version: str | None) -> int:
        """Wait, as `kubectl rollout status` does, until all pods are of the template and available: so many.

        RolloutError if they do not become so; the version is that of the template.
        """
        end, said, stuck = time.monotonic() + ROLLOUT_SECONDS, "", 0
        while True:
            try:
                deployment = self._get()
            except UnreachableError:  # the pods go on without it, and going back would need it as well
                if time.monotonic() > end:
                    raise
                continue
            wanted, status = deployment.spec.replicas, deployment.status
            if deployment.spec.paused or not wanted:
                state = "paused" if deployment.spec.paused else "scaled to no pods"
                raise RolloutError(
                    f"Deployment {NAME} in namespace {self.namespace} is {state}: undo that, and run again"
                )
            seen = (status.observed_generation or 0) >= deployment.metadata.generation
            updated = (status.updated_replicas or 0) if seen else 0
            left = (status.replicas or 0) - updated  # of the template before, which serve as long as they are there
            ready = max(0, (status.available_replicas or 0) - left)
            if seen and updated >= wanted and left <= 0 and ready >= updated:
                return int(updated)
            why = self._reasons(version, deployment.spec.selector.match_labels) if seen else ""
            # Twice in a row: the first may be what was said of the template before.
            stuck = stuck + 1 if seen and _exceeded(status) else 0
            exceeded = stuck > 1
            if exceeded or time.monotonic() > end:
                limit = "within its progressDeadlineSeconds" if exceeded else f"in {ROLLOUT_SECONDS:g} s"
                raise RolloutError(
                    f"of {wanted} pods {ready} became ready {limit}: {why or 'their states do not say why'}"
                )
            if (now := f"{updated}, {ready}, {why}") != said:
                said = now
                emit(Progress("rolling out", ready, wanted, "pods ready", why=why))
            time.sleep(POLL_SECONDS)

    def _reasons(self, version: str | None, labels: Mapping[str, str]) -> str:
        """What the states of the version's pods say, as far as it may be asked."""
        try:
            with self._explained("list", "pods"):
                pods = self._core.list_namespaced_pod(
                    self.namespace,
                    label_selector=",".join(f"{key}={value}" for key, value in labels.items()),
                    _request_timeout=_REQUEST_SECONDS,
                ).items
        except RolloutError as error:
            return str(error)
        of_version = [pod for pod in pods if (pod.metadata.annotations or {}).get(STAMP) == version]
        said = {f"{pod.metadata.name} {reason}" for pod in of_version if (reason := _reason(pod))}
        return "; ".join(sorted(said))

    def _get(self) -> Any:
        with self._explained("get", "deployments"):
            return self._apps.read_namespaced_deployment(NAME, self.namespace, _request_timeout=_REQUEST_SECONDS)

    @contextmanager
    def _explained(self, verb: str, resource: str) -> Iterator[None]:
        try:
            yield
        except client.ApiException as error:
            kind = UnreachableError if error.status in _TRANSIENT else RolloutError
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
                    f"{place} has no Deployment {NAME}: {_APPLY}, or kubeflow.serving_namespace: null in "
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


def _exceeded(status: Any) -> bool:
    return any(
        one.type == "Progressing" and one.reason == "ProgressDeadlineExceeded" for one in status.conditions or ()
    )


def _reason(pod: Any) -> str:
    """Why a pod is not ready, in Kubernetes' words; nothing if it is, or is merely on its way."""
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason}: {condition.message}"
    for one in (*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())):
        waiting, ended = one.state.waiting, one.state.terminated or (one.last_state and one.last_state.terminated)
        told = []
        if waiting and waiting.reason not in ("ContainerCreating", "PodInitializing"):
            told.append(f"{waiting.reason}: {waiting.message}" if waiting.message else waiting.reason)
        if ended:
            told.append(
                f"ended with {ended.exit_code} ({ended.reason})" + (f", {ended.message}" if ended.message else "")
            )
        if told:
            return ", ".join(told)
        if one.state.running and not one.ready:
            return "is not ready: its log says why"
    return ""
