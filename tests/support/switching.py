"""What the tests of switching share: versions with small archives, served here or in the stand-in's cluster."""

import base64
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import yaml

from steps.common.pointer import read_pointer
from steps.deploy.deploy import retire
from steps.deploy.release import audit
from steps.deploy.release.switch import alone, switch

DIGITS = [f"image {number}".encode() for number in range(4)]


def answers(version: str) -> dict[bytes, dict[str, Any]]:
    """What a version answers; each has distances of its own."""
    own = int(hashlib.sha256(version.encode()).hexdigest(), 16) % 1000 / 10_000
    return {image: {"label": str(number), "distance": own + number / 100} for number, image in enumerate(DIGITS)}


def kubeconfig(path: Path, url: str, token: str = "right") -> Path:
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


def serve(version: str, image: str | None = "serving:new", wrong: bool = False) -> bool:
    """Switch to this version as deploy would; whether anything changed."""
    mar = Path(os.environ["VOLUMES"], f"deploy-model/model-store/digits_{version}.mar")
    with alone() as current:
        if current and current["version"] == version and current.get("image") == image:
            return switch(current, current, audit.DEPLOYED, "it is good")
        golden = [
            {"image": base64.b64encode(each).decode(), "expected": answer["label"], **answer}
            for each, answer in answers(version).items()
        ]
        if wrong:
            golden[-1]["label"] = "9"
        with zipfile.ZipFile(mar, "w") as archive:
            archive.writestr("model.json", json.dumps({"name": "digits", "version": version}))
            archive.writestr("golden.json", json.dumps(golden))
        sha256 = hashlib.sha256(mar.read_bytes()).hexdigest()
        wanted = {"name": "digits", "version": version, "mar": mar.name, "sha256": sha256, "network": version}
        wanted |= {"index": "i", "deployed_at": audit.now(), **({"image": image} if image else {})}
        return switch(current, wanted, audit.DEPLOYED, "it is good")


def pointer() -> dict[str, Any] | None:
    found = read_pointer()
    return {key: value for key, value in found.items() if key != "switched"} if found else None


def pointed() -> dict[str, Any]:
    """The pointer, of which there has to be one."""
    found = pointer()
    assert found is not None
    return found


def log() -> list[tuple[str, str | None]]:
    return [(line["event"], line["version"]) for line in audit.read()]


def served(version: str, keep: int = 3, **facts: Any) -> None:
    """Serve this version as deploy would."""
    folder = Path(os.environ["VOLUMES"], "deploy-model")
    mar = folder / "model-store" / f"digits_{version}.mar"
    mar.write_bytes(f"archive of {version}".encode())
    wanted = {
        **{"name": "digits", "version": version, "mar": mar.name, "network": f"n-{version}", "index": f"i-{version}"},
        **{
            "sha256": hashlib.sha256(mar.read_bytes()).hexdigest(),
            "deployed_at": audit.now(),
            "accuracy": 0.9,
            **facts,
        },
    }
    with alone() as current:
        switch(current, {**wanted, "rolled_back": (current or {}).get("rolled_back", [])}, audit.DEPLOYED, "it is good")
        retire(mar, keep)


def current() -> str:
    return str(pointed()["version"])


def switches() -> list[tuple[str, str | None, str | None]]:
    return [(line["event"], line["before"], line["version"]) for line in audit.read()]
