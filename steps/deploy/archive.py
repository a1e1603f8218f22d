"""Builds a model's MAR with torch-model-archiver: reads artefacts, writes the MAR.

The modules in it are this image's own. What comes from artefacts is data: weights, index, labels, golden predictions
and the reference of drift, each copied first and then checked, so that nothing else is archived than what was checked.

A version follows from this module, with all that it imports and all files that it names.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.events import Warned, emit
from contract.loop import reference
from contract.paths import ROOT
from steps.common.images.stored import StoredImages
from steps.common.models import seen
from steps.common.models.contents import FEATURES_INDEX, INDEX_FILES, NETWORK_FILES, ONNX
from steps.common.models.seen import Seen
from steps.deploy import thumbnails
from steps.deploy.export import export_network
from steps.deploy.shape import GOLDEN, check_golden, check_index, read_features, read_reference

MAR = "model.mar"
HANDLER = "serving/model/handler.py"
# The modules beside the handler: all others of its folder, the decoder that preprocess uses, too, and the form of the
# store that review and drift read.
CODE = (
    *sorted(
        f"serving/model/{path.name}" for path in (ROOT / "serving/model").glob("[!_]*.py") if path.stem != "handler"
    ),
    "steps/common/images/decode.py",
    "contract/loop/collected.py",
)
CONFIG = "serving/model/model-config.yaml"


def build_archive(
    folder: Path,
    model: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    network: Path,
    index: Path,
    evaluation: Path,
    had: Seen | None,
    gallery: NDArray[np.uint8] | StoredImages | None,
) -> None:
    """Write the MAR of a model.

    Args:
        folder: where it is written, as `model.mar`.
        model: what the worker reads as `model.json`, with `name` and `version`.
        provenance: what `provenance.json` in it says of code, data and parameters.
        network: the folder of the network.
        index: the folder of the index.
        evaluation: the folder of the evaluation, with golden predictions and reference.
        had: What the model learned from and holds, which travels too; None if that is not known.
        gallery: the images uint8 [N, S, S, C] that the index holds, to draw thumbnails of; None for no thumbnails.

    Raises:
        StepError: what comes from an artefact is not of its form.
        RuntimeError: torch-model-archiver failed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        extra = Path(temporary, "extra")
        extra.mkdir()
        sources = [network / name for name in NETWORK_FILES] + [index / name for name in INDEX_FILES]
        sources.append(index / FEATURES_INDEX)
        sources.append(evaluation / GOLDEN)
        for source in (*sources, *(ROOT / path for path in CODE)):
            shutil.copyfile(source, extra / source.name)
        form = {"image_size": model["image_size"], "channels": model["channels"]}
        size = export_network(extra, read_features(extra), extra / ONNX, **form)
        count = check_index(extra, size)
        check_golden(extra / GOLDEN)
        (extra / reference.FILE).write_bytes(read_reference(evaluation).to_bytes())
        (extra / "model.json").write_text(json.dumps(model, indent=2) + "\n")
        (extra / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
        if had:
            (extra / seen.FILE).write_bytes(seen.to_bytes(had))
        if gallery is not None and len(gallery) == count:
            _add_thumbnails(extra, gallery, model["thumbnails"])
        arguments = {
            "--model-name": Path(MAR).stem,
            "--version": model["version"],
            "--handler": ROOT / HANDLER,
            "--config-file": ROOT / CONFIG,
            "--extra-files": extra,
            "--export-path": folder,
            "--archive-format": "zip-store",  # weights do not compress, and it loads faster
        }
        command = [sys.executable, "-m", "model_archiver.model_packaging"]
        command += [str(word) for pair in arguments.items() for word in pair]
        # The archiver works in $TMPDIR/<model name>, which two runs must not share.
        environment = {**os.environ, "TMPDIR": temporary}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        # Not a StepError, so that the store checks whether the disk is full.
        raise RuntimeError(f"torch-model-archiver failed: {done.stderr.strip().splitlines()[-1]}")


def _add_thumbnails(folder: Path, gallery: NDArray[np.uint8] | StoredImages, limit: int) -> None:
    drawn = thumbnails.draw(gallery, limit)
    if drawn is None:
        emit(Warned(f"no thumbnails: those of {len(gallery)} images do not fit deploy.thumbnails ({limit} bytes)"))
        return
    (folder / thumbnails.IMAGE).write_bytes(drawn.image)
    (folder / thumbnails.LAYOUT).write_text(json.dumps(drawn.layout()))
