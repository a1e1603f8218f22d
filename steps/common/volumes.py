"""Where the three volumes are: reads the environment variable VOLUMES, the folder that holds them.

In a container that is `/`, so that the volumes are `/data`, `/model` and `/deploy-model`.
"""

import os
from pathlib import Path


def _volume(name: str) -> Path:
    return Path(os.environ.get("VOLUMES") or "/") / name


def data_volume() -> Path:
    """Images and datasets."""
    return _volume("data")


def model_volume() -> Path:
    """Networks, embeddings, indices, evaluations and verdicts."""
    return _volume("model")


def deploy_volume() -> Path:
    """The model store that TorchServe serves from, and the pointer to its current model."""
    return _volume("deploy-model")
