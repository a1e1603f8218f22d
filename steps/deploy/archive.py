"""Builds a model's MAR with torch-model-archiver: reads artefacts, writes the MAR.

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

from contract.paths import ROOT
from steps.common import seen
from steps.common.contents import INDEX_FILES, NETWORK_FILES
from steps.common.seen import Seen
from steps.deploy.export import ONNX, export_network

MAR = "model.mar"
# What the worker runs, besides the handler: it imports nothing of this repository.
CODE = (
    "serving/model/predictor.py",
    "serving/model/payload.py",
    "serving/model/telemetry.py",
    "serving/model/socket_reads.py",
    "steps/common/decode.py",
)
HANDLER = "serving/model/handler.py"
CONFIG = "serving/model/model-config.yaml"


def build_archive(
    folder: Path,
    model: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    network: Path,
    index: Path,
    golden: Path,
    had: Seen | None,
) -> None:
    """Write the MAR of the model; `model` is what the worker reads as `model.json`, with `name` and `version`.

    `had` is what it learned from and holds, which travels too, unless it is not known.
    """
    with tempfile.TemporaryDirectory() as temporary:
        extra = Path(temporary, "extra")
        extra.mkdir()
        sources = [network / name for name in NETWORK_FILES] + [index / name for name in INDEX_FILES]
        for source in (*sources, golden, *(ROOT / path for path in CODE)):
            shutil.copyfile(source, extra / source.name)
        export_network(network, extra / ONNX, image_size=model["image_size"], channels=model["channels"])
        (extra / "model.json").write_text(json.dumps(model, indent=2) + "\n")
        (extra / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
        if had:
            (extra / seen.FILE).write_bytes(seen.to_bytes(had))
        arguments = {
            "--model-name": Path(MAR).stem,
            "--version": model["version"],
            "--handler": ROOT / HANDLER,
            "--config-file": ROOT / CONFIG,
            "--extra-files": extra,
            "--export-path": folder,
            "--archive-format": "zip-store",  # nothing in it shrinks much, and it loads the sooner
        }
        command = [sys.executable, "-m", "model_archiver.model_packaging"]
        command += [str(word) for pair in arguments.items() for word in pair]
        # The archiver works in <temporary folder>/<model name>: one of its own keeps two runs apart.
        environment = {**os.environ, "TMPDIR": temporary}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        # No StepError: the store then looks whether the disk is full.
        raise RuntimeError(f"torch-model-archiver failed: {done.stderr.strip().splitlines()[-1]}")
