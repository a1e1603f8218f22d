"""What a model is made of: the SHA-256s of its files, in the store or in an archive. Two models are one if all agree.

Reads manifests on the model volume, and archives.
"""

import hashlib
import zipfile
from collections.abc import Sequence

from steps.common.errors import StepError
from steps.common.store import find
from steps.common.volumes import model_volume

NETWORK_FILES = ("weights.safetensors", "network.json")
INDEX_FILES = ("index.faiss", "labels.json")
FEATURES_INDEX = "features.npz"  # beside them; an older archive has none
# The distances beyond which an image is unknown: in an archive's `model.json`, and among the facts of an evaluation.
LIMITS = ("unknown_distance", "unknown_features_distance")
ONNX = "network.onnx"  # the network as which an archive serves it


def stored_contents(network: str, index: str) -> dict[str, str]:
    """The SHA-256 of each file of a network and an index in the store; StepError if one is missing."""
    return {**network_contents(network), **_contents("index", index, (*INDEX_FILES, FEATURES_INDEX))}


def network_contents(network: str) -> dict[str, str]:
    """Likewise of a network alone."""
    return _contents("network", network, NETWORK_FILES)


def _contents(kind: str, id: str, names: Sequence[str]) -> dict[str, str]:
    artefact = find(model_volume(), kind, id)
    if artefact is None:
        raise StepError(f"{model_volume() / kind / id} is missing or incomplete: run again, which makes it anew")
    return {name: str(artefact.manifest["files"][name]["sha256"]) for name in names}


def archived_contents(archive: zipfile.ZipFile) -> dict[str, str]:
    """Likewise of an archive; OSError, KeyError or BadZipFile if it is damaged."""
    found = {}
    second = [FEATURES_INDEX] if FEATURES_INDEX in archive.namelist() else []
    for name in (*NETWORK_FILES, *INDEX_FILES, *second):
        with archive.open(name) as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    return found
