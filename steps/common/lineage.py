"""The lineage of an artefact: follows the manifests on the data and model volumes from ids to their inputs."""

from collections.abc import Iterable
from typing import Any

from steps.common.store import find
from steps.common.volumes import data_volume, model_volume

_ON_DATA = ("dataset", "weights")
_KINDS = (*_ON_DATA, "network", "embeddings", "index")
_KEPT = ("step", "code", "libraries", "parameters", "inputs", "created")


def lineage(ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """These artefacts and all that they were made of.

    Args:
        ids: The artefacts' ids.

    Returns:
        For each id the kind, and of the manifest the step, code, libraries, parameters, inputs and time; None for what
        the manifest of an earlier version does not have.
    """
    found: dict[str, dict[str, Any]] = {}
    waiting = list(ids)
    while waiting:
        id = waiting.pop(0)
        for kind in _KINDS if id not in found else ():
            if artefact := find(data_volume() if kind in _ON_DATA else model_volume(), kind, id):
                found[id] = {"kind": kind, **{key: artefact.manifest.get(key) for key in _KEPT}}
                waiting += [value for value in artefact.manifest["inputs"].values() if value]
    return found
