"""What a running server leaves for health checks: a file in the folder for temporary files, named by its port.

It holds one golden prediction of the version that is served; so a check needs neither the volume nor the archive.
"""

import base64
import json
import os
import tempfile
from pathlib import Path

from serving.golden import Golden, Item


def canary_path(port: int) -> Path:
    """Where the server on this port leaves it."""
    # Not tempfile.gettempdir, which goes elsewhere when the disk is full: the check would look where nothing is.
    given = [os.environ.get(name, "") for name in ("TMPDIR", "TEMP", "TMP")]
    folders = [each for each in (*given, "/tmp") if each and Path(each).is_dir()]  # noqa: S108 - not ours alone
    return Path(folders[0] if folders else tempfile.gettempdir(), f"serving-{port}.json")


def leave(port: int, url: str, golden: Golden) -> None:
    """Write the file; a reader sees the old one or the new."""
    item = golden.items[0]
    content = {"url": url, "version": golden.version, "label": item.label, "distance": item.distance}
    path = canary_path(port)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps({**content, "image": base64.b64encode(item.image).decode()}))
    os.replace(new, path)


def find(port: int) -> tuple[str, Golden] | None:
    """The server's address and the version that it serves; None if none has said that it is ready."""
    try:
        found = json.loads(canary_path(port).read_text())
        item = Item(base64.b64decode(found["image"]), found["label"], found["label"], found["distance"])
        return found["url"], Golden(found["version"], (item,))
    except (OSError, ValueError, KeyError, TypeError):
        return None
