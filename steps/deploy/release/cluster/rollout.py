"""Rolls the Deployment that serves to a version: patches it, waits for its pods, asks its Service.

Reads the archive's golden predictions.
"""

import time
from pathlib import Path

from contract.events import Progress, emit
from contract.journal import Template
from contract.pointer import Pointer
from serving.golden import Golden, GoldenError, read_golden
from steps.deploy.release.cluster.deployment import Deployment, RolloutError, UnreachableError
from steps.deploy.release.cluster.pods import deadline_exceeded, refusal
from steps.deploy.release.cluster.service import ask, until_shadowed

POLL_SECONDS = 2.0
ROLLOUT_SECONDS = 1800.0  # in all; a rollout that is stuck ends after the Deployment's progressDeadlineSeconds
# How much later than Kubernetes we say so ourselves: it sets no such condition on the way to a ReplicaSet that exists.
LATER_SECONDS = 30.0
_DEFAULT_DEADLINE_SECONDS = 600  # Kubernetes' own


class Rollout:
    """The rollouts of one Deployment."""

    def __init__(self, namespace: str, name: str, url: str) -> None:
        """Connect to the cluster; RolloutError if there is none.

        Args:
            namespace: the Deployment's.
            name: the Deployment's.
            url: where its Service answers.
        """
        self._deployment, self._url = Deployment(namespace, name), url.rstrip("/")

    def template(self) -> Template:
        """What the Deployment's pod template names; errors are those of `Deployment.template`."""
        return self._deployment.template()

    def restore(self, template: Template) -> bool:
        """Set the pod template if it is another, True if it was; RolloutError if it cannot be changed."""
        if self.template() == template:
            return False
        self._deployment.patch(template)
        return True

    def golden(self, mar: Path) -> Golden:
        """Read the golden predictions of an archive.

        Args:
            mar: the archive.

        Returns:
            Its golden predictions.

        Raises:
            RolloutError: the archive holds none.
        """
        try:
            return read_golden(mar)
        except GoldenError as error:
            raise RolloutError(str(error)) from error

    def roll(self, version: str, image: str | None) -> tuple[int, bool]:
        """Bring every pod to a version; RolloutError if they do not become available.

        Args:
            version: the version.
            image: of the pods; None leaves it as it is.

        Returns:
            The number of pods, and whether they had to change.
        """
        found = self.template()
        wanted = Template(version, image or found.image)
        if found != wanted:
            self._deployment.patch(wanted)
        return self.wait(version), found != wanted

    def ask(self, name: str, golden: Golden, pods: int) -> None:
        """Ask the Service for golden predictions; arguments and errors are those of `service.ask`, with the name."""
        ask(f"{self._url}/predictions/{name}", golden, pods)

    def until_shadowed(self, pointer: Pointer) -> str:
        """Wait until no pod shadows a version any more; arguments and errors are those of `service.until_shadowed`."""
        return until_shadowed(f"{self._url}/v1/models/{pointer.name}", pointer)

    def wait(self, version: str | None) -> int:
        """Wait, as `kubectl rollout status` does, until all pods are of the template and available.

        Args:
            version: the template's, to find its pods by.

        Returns:
            The number of pods.

        Raises:
            RolloutError: they do not become available; the message has the reasons that their status gives.
            UnreachableError: the API does not answer.
        """
        end, said, stuck = time.monotonic() + ROLLOUT_SECONDS, "", 0
        moved, last = time.monotonic(), (-1, -1, -1)
        while True:
            try:
                deployment = self._deployment.read()
            except UnreachableError:  # the rollout goes on meanwhile, and an undo would need the API as well
                if time.monotonic() > end:
                    raise
                continue
            wanted, status = deployment.spec.replicas, deployment.status
            if deployment.spec.paused or not wanted:
                state = "paused" if deployment.spec.paused else "scaled to no pods"
                place = f"Deployment {self._deployment.name} in namespace {self._deployment.namespace}"
                raise RolloutError(f"{place} is {state}: undo that, and run again")
            seen = (status.observed_generation or 0) >= deployment.metadata.generation
            updated = (status.updated_replicas or 0) if seen else 0
            left = (status.replicas or 0) - updated  # of the template before; they serve until they are gone
            ready = max(0, (status.available_replicas or 0) - left)
            if seen and updated >= wanted and left <= 0 and ready >= updated:
                return int(updated)
            looked = time.monotonic()
            if (counts := (updated, left, ready)) != last:
                moved, last = looked, counts
            limit_seconds = (deployment.spec.progress_deadline_seconds or _DEFAULT_DEADLINE_SECONDS) + LATER_SECONDS
            late = looked - moved > limit_seconds or (seen and deadline_exceeded(status))
            # Twice in a row: the first may be of the template before, or come after a time in which nobody looked.
            stuck = stuck + 1 if late else 0
            exceeded = stuck > 1
            told = self._deployment.reasons(version, deployment.spec.selector.match_labels) if seen else ""
            why = "; ".join(filter(None, (refusal(status) if seen else "", told)))
            if exceeded or time.monotonic() > end:
                limit = "within its progressDeadlineSeconds" if exceeded else f"in {ROLLOUT_SECONDS:g} s"
                raise RolloutError(
                    f"of {wanted} pods {ready} became ready {limit}: {why or 'their states do not say why'}"
                )
            if (now := f"{updated}, {ready}, {why}") != said:
                said = now
                emit(Progress("rolling out", ready, wanted, "pods ready", why=why))
            time.sleep(POLL_SECONDS)
