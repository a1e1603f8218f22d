"""What a running server leaves for health checks: a file in the folder for temporary files, named by its port.

It holds one golden prediction of the version that is served, and during a switch of the next one too; so a check needs
neither the volume nor the archive.
"""

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from serving.golden import Golden, Item

# The server's address, and the versions that may answer there.
Left = tuple[str, tuple[Golden, ...]]


def canary_path(port: int) -> Path:
    """Where the server on this port leaves it."""
    # Not tempfile.gettempdir, which goes elsewhere when the disk is full: the check would look where nothing is.
    given = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    folders = [each for each in (*given, "/tmp") if each and Path(each).is_dir()]  # noqa: S108 - not ours alone
    return Path(folders[0] if folders else tempfile.gettempdir(), f"serving-{port}.json")


def leave(port: int, url: str, *goldens: Golden) -> None:
    """Write the file, of the versions that may answer now; a reader sees the old one or the new."""
    path = canary_path(port)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({"url": url, "versions": [_content(each) for each in goldens]}))
    os.replace(new, path)


def find(port: int) -> Left | None:
    """What a server left; None if none has said that it is ready."""
    try:
        found = json.loads(canary_path(port).read_text())
        return found["url"], tuple(_golden(each) for each in found["versions"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _content(golden: Golden) -> dict[str, Any]:
    item = golden.items[0]
    image = base64.b64encode(item.image).decode()
    return {"version": golden.version, "label": item.label, "distance": item.distance, "image": image}


def _golden(content: dict[str, Any]) -> Golden:
    item = Item(base64.b64decode(content["image"]), content["label"], content["label"], content["distance"])
    return Golden(content["version"], (item,))
