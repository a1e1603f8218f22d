"""Measures serving images of 224 pixels by a network on a backbone, beside a plain handler for the same network.

The backbone's weights are drawn: how fast it answers does not follow from them. Needs wrk.
"""

import json
import shutil
import tempfile
import zipfile
from pathlib import Path

from safetensors.torch import save_file

from benchmarks.many_images import write_classes
from benchmarks.scale import params_file
from benchmarks.serving import compared, in_turns
from benchmarks.watch import run
from steps.common.models.backbone import Backbone
from steps.common.parameters import DEFAULT_BACKBONE

_SIDE, _CLASSES, _EACH = 224, 4, 40
_WEIGHTS = "drawn.safetensors"


def measure() -> list[tuple[str, str]]:
    """Train the head for an epoch, deploy, and measure both servers; rows of a name and its figure."""
    if shutil.which("wrk") is None:
        return [("nothing", "wrk is missing: apt-get install wrk")]
    with tempfile.TemporaryDirectory(prefix="b-") as folder:
        volumes = Path(folder)
        write_classes(volumes / "data/images/train", _CLASSES, _EACH, side=_SIDE, colours=3)
        save_file(Backbone(3, DEFAULT_BACKBONE, _SIDE, 2).body.state_dict(), volumes / "data" / _WEIGHTS)
        data = {"image_size": _SIDE, "channels": 3}
        train = {"backbone": DEFAULT_BACKBONE, "backbone_url": _WEIGHTS, "backbone_frozen": 1.0, "epochs": 1}
        run(volumes, params_file(volumes, data=data, train={**train, "batch_size": 16}))
        pointer = json.loads((volumes / "deploy-model/current.json").read_text())
        with zipfile.ZipFile(volumes / "deploy-model/model-store" / pointer["mar"]) as mar:
            mar.extractall(volumes / "unpacked")
        image = next((volumes / "data/images/train").rglob("*.png"))
        plain, ours, _ = in_turns(volumes, volumes / "unpacked", image)
    return [("network", f"{DEFAULT_BACKBONE}, {_SIDE} pixels a side"), *compared(plain, ours)]
