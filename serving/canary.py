"""The canary file: what a health check asks, and the right answer. A running server writes it, the probe reads it.

It is in the folder for temporary files, named by the server's port, so that a probe needs neither the volume nor the
archive. It holds one golden prediction of the version being served; during a switch, also of the next version.
"""

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from serving.golden import Golden, Item


class Canary(NamedTuple):
    """The server's address, and a golden prediction of each version that may answer there."""

    url: str
    versions: tuple[Golden, ...]


def canary_path(port: int) -> Path:
    """The canary file of the server on this port."""
    # Not tempfile.gettempdir: on a full disk it chooses another folder, and the probe would look in the wrong one.
    given = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    folders = [each for each in (*given, "/tmp") if each and Path(each).is_dir()]  # noqa: S108 - not ours alone
    return Path(folders[0] if folders else tempfile.gettempdir(), f"serving-{port}.json")


def write_canary(port: int, url: str, *versions: Golden) -> None:
    """Replace the canary file atomically.

    Args:
        port: The server's port.
        url: Its address for predictions.
        *versions: The golden predictions of each version that may answer now.
    """
    path = canary_path(port)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({"url": url, "versions": [_to_json(each) for each in versions]}))
    os.replace(new, path)


def read_canary(port: int) -> Canary | None:
    """The canary file's content; None if no server is ready."""
    try:
        content = json.loads(canary_path(port).read_text())
        return Canary(content["url"], tuple(_from_json(each) for each in content["versions"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _to_json(golden: Golden) -> dict[str, Any]:
    item = golden.items[0]
    image = base64.b64encode(item.image).decode()
    return {"version": golden.version, "label": item.label, "distance": item.distance, "image": image}


def _from_json(content: dict[str, Any]) -> Golden:
    item = Item(base64.b64decode(content["image"]), content["label"], content["label"], content["distance"])
    return Golden(content["version"], (item,))
