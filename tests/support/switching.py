"""What the tests of switching share: versions with small archives, served here or in the stand-in's cluster."""

import base64
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import yaml

from contract.journal import Event
from contract.pointer import Pointer, Record
from steps.common.pointer import read_pointer
from steps.deploy.release.actor import now
from steps.deploy.release.archives import retire_archives
from steps.deploy.release.journal import opened, read_status
from steps.deploy.release.switch import confirm, shadowed, switch

DIGITS = [f"image {number}".encode() for number in range(4)]


def answers(version: str) -> dict[bytes, dict[str, Any]]:
    """What a version answers; each has distances of its own."""
    own = int(hashlib.sha256(version.encode()).hexdigest(), 16) % 1000 / 10_000
    return {image: {"label": str(number), "distance": own + number / 100} for number, image in enumerate(DIGITS)}


def kubeconfig(path: Path, url: str, token: str = "right") -> Path:
    """Write settings of kubectl that name the cluster at this address; give their path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "clusters": [{"name": "here", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(content))
    return path


def serve(
    version: str, image: str | None = "serving:new", wrong: bool = False, shadow: dict[str, Any] | None = None
) -> bool:
    """Switch to this version as deploy would; whether anything changed."""
    mar = Path(os.environ["VOLUMES"], f"deploy-model/model-store/digits_{version}.mar")
    with opened() as journal:
        current = journal.status.current
        if current and (current.version, current.image) == (version, image):
            return confirm(journal)
        write_archive(mar, version, wrong=wrong)
        record = Record(
            name="digits",
            version=version,
            mar=mar.name,
            sha256=hashlib.sha256(mar.read_bytes()).hexdigest(),
            network=version,
            index="i",
            image=image,
            deployed_at=now(),
            shadow=shadow,
        )
        switch(journal, shadowed(record, journal.status.confirmed), Event.DEPLOYED, "it is good")
        return True


def write_archive(mar: Path, version: str, wrong: bool = False) -> None:
    """An archive with the golden predictions of this version, one of which is wrong if wanted."""
    golden = [
        {"image": base64.b64encode(each).decode(), "expected": answer["label"], **answer}
        for each, answer in answers(version).items()
    ]
    if wrong:
        golden[-1]["label"] = "9"
    with zipfile.ZipFile(mar, "w") as archive:
        archive.writestr(zipfile.ZipInfo("model.json"), json.dumps({"name": "digits", "version": version}))
        archive.writestr(zipfile.ZipInfo("golden.json"), json.dumps(golden))


def pointed() -> Pointer:
    """The pointer, of which there has to be one."""
    found = read_pointer()
    assert found is not None
    return found


def log() -> list[tuple[str, str | None]]:
    """Each change of the current version, and to which."""
    return [(change.event, change.version) for change in read_status().history]


def served(version: str, keep: int = 3, **facts: Any) -> None:
    """Serve this version on one machine, as deploy would."""
    folder = Path(os.environ["VOLUMES"], "deploy-model")
    mar = folder / "model-store" / f"digits_{version}.mar"
    mar.write_bytes(f"archive of {version}".encode())
    ids = {"name": "digits", "version": version, "mar": mar.name, "network": f"n-{version}", "index": f"i-{version}"}
    sha256 = hashlib.sha256(mar.read_bytes()).hexdigest()
    facts = {"deployed_at": now(), "accuracy": 0.9, **facts}
    with opened() as journal:
        current = journal.status.current
        if current and current.version == version:
            confirm(journal)
        else:
            switch(journal, Record(**ids, sha256=sha256, **facts), Event.DEPLOYED, "it is good")
        retire_archives(mar, keep)


def current() -> str:
    """The version that the pointer names."""
    return pointed().version


def switches() -> list[tuple[str, str | None, str | None]]:
    """Each change of the current version: from which to which."""
    return [(change.event, change.before, change.version) for change in read_status().history]
