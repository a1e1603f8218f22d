"""Where an artefact comes from: follows the manifests on the data and model volumes from ids to their inputs."""

from collections.abc import Iterable
from typing import Any

from steps.common.store import find
from steps.common.volumes import data_volume, model_volume

_KINDS = ("dataset", "network", "embeddings", "index")
_KEPT = ("step", "code", "libraries", "parameters", "inputs", "created")


def lineage(ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Every artefact that led to these ids, and these: by id its kind, step, parameters, inputs and time of birth."""
    found: dict[str, dict[str, Any]] = {}
    waiting = list(ids)
    while waiting:
        id = waiting.pop(0)
        for kind in _KINDS if id not in found else ():
            if artefact := find(data_volume() if kind == "dataset" else model_volume(), kind, id):
                found[id] = {"kind": kind, **{key: artefact.manifest.get(key) for key in _KEPT}}
                waiting += [value for value in artefact.manifest["inputs"].values() if value]
    return found
