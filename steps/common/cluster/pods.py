"""What pods say in their status: reads objects of the Kubernetes client."""

from typing import Any


def reason(pod: Any) -> str:
    """Why a pod is not ready, in Kubernetes' words; nothing if it is ready, or starts."""
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
