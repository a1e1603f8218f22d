"""What a Deployment says in its status: reads objects of the Kubernetes client."""

from typing import Any


def deadline_exceeded(status: Any) -> bool:
    """Whether the Deployment made no progress within its progressDeadlineSeconds."""
    return any(
        one.type == "Progressing" and one.reason == "ProgressDeadlineExceeded" for one in status.conditions or ()
    )


def refusal(status: Any) -> str:
    """Why the API refuses the Deployment's pods, as a quota or a policy does; nothing if it does not."""
    failures = [one for one in status.conditions or () if one.type == "ReplicaFailure" and one.status == "True"]
    return f"{failures[0].reason}: {failures[0].message}" if failures else ""
