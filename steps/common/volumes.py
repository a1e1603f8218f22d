"""Where the three volumes are: in the folder that the environment variable VOLUMES names.

In a container that is `/`, so that the volumes are `/data`, `/model` and `/deploy-model`.
"""

from pathlib import Path

from contract.environment import volumes

LOGS = "logs"  # the folder, beside the volumes, of the logs of runs on one machine: run-<time>-<process id>.log


def _volume(name: str) -> Path:
    return volumes() / name


def data_volume() -> Path:
    """Images and datasets."""
    return _volume("data")


def model_volume() -> Path:
    """Networks, embeddings, indices, evaluations and verdicts."""
    return _volume("model")


def deploy_volume() -> Path:
    """The model store that TorchServe serves from, and the pointer to its current model."""
    return _volume("deploy-model")
