"""Writes the events of a step to standard output."""

from contract.events import Event, line


def emit(event: Event) -> None:
    """Write one event, for whoever watches: a person, the pipeline's command, or Kubernetes' log of the pod."""
    print(line(event), flush=True)
