"""Builds a model's MAR with torch-model-archiver and proves it: reads artefacts, writes the MAR."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.server import TorchServe, TorchServeError
from steps.common.digest import ROOT
from steps.common.errors import StepError
from steps.common.network import FILES as NETWORK_FILES

MAR = "model.mar"
# What the worker runs, besides the handler: it imports nothing of this repository.
CODE = ("serving/predictor.py", "serving/payload.py", "steps/common/images.py")
HANDLER = "serving/handler.py"
CONFIG = "serving/model-config.yaml"
_DISTANCE_TOLERANCE = 1e-4  # a batch of another size adds up floats in another order


def build_archive(
    folder: Path,
    model: Mapping[str, Any],
    provenance: Mapping[str, Any],
    *,
    network: Path,
    index: Path,
    golden: Path,
) -> None:
    """Write the MAR of the model; `model` is what the worker reads as `model.json`, with `name` and `version`."""
    with tempfile.TemporaryDirectory() as temporary:
        extra = Path(temporary, "extra")
        extra.mkdir()
        sources = [network / name for name in NETWORK_FILES] + [index / "index.faiss", index / "labels.json", golden]
        for source in (*sources, *(ROOT / path for path in CODE)):
            shutil.copyfile(source, extra / source.name)
        (extra / "model.json").write_text(json.dumps(model, indent=2) + "\n")
        (extra / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
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


def prove_archive(mar: Path, model: Mapping[str, Any], golden: Path) -> list[dict[str, Any]]:
    """Serve the MAR on loopback and ask for the golden predictions, which must equal the analysis's own answers.

    Gives the answers with what was expected; raises StepError on the first difference.
    """
    answers = []
    with tempfile.TemporaryDirectory() as temporary:
        try:
            with TorchServe(mar, model["name"], log=Path(temporary, "torchserve.log")) as server:
                for item in json.loads(golden.read_text()):
                    answers.append({"expected": item["expected"], "answer": _ask(server, item, model["version"])})
        except TorchServeError as error:
            raise StepError(f"the model does not serve, so it is not deployed: {error}") from error
    return answers


def _ask(server: TorchServe, item: Mapping[str, Any], version: str) -> dict[str, Any]:
    status, answer = server.predict(base64.b64decode(item["image"]))
    wanted = {"status": 200, "label": item["label"], "version": version}
    got = {"status": status, "label": answer.get("label"), "version": answer.get("model", {}).get("version")}
    if got != wanted or not _close(answer["distance"], item["distance"]):
        raise StepError(
            f"TorchServe answers {json.dumps(answer)} with status {status} where the analysis found "
            f"{item['label']!r} at distance {item['distance']}: the model is not deployed, and serving is untouched"
        )
    return answer


def _close(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else abs(one - other) <= _DISTANCE_TOLERANCE
