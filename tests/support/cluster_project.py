"""Shared by the tests of a cluster: what kubectl says, and a copy of this project with the cluster's settings."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contract.paths import ROOT
from pipeline.images.build import references
from pipeline.settings import load_project

VOLUMES = "/srv/cluster-test"  # on the node
_MINUTES = 30


def kubectl(*words: str, given: str | None = None, check: bool = True) -> str:
    """What kubectl prints."""
    done = subprocess.run(
        ["kubectl", *words], input=given, capture_output=True, text=True, check=False, timeout=_MINUTES * 60
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def objects(kind: str, namespace: str, label: str = "") -> list[dict[str, Any]]:
    """The objects of a kind."""
    selector = ["-l", label] if label else []
    items: list[dict[str, Any]] = json.loads(kubectl("get", kind, "-n", namespace, *selector, "-o", "json"))["items"]
    return items


@dataclass
class Submitted:
    """A `submit --wait` that has ended."""

    status: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """Its last line."""
        return self.out.splitlines()[-1] if self.out else ""

    @property
    def run(self) -> str:
        """The id of its run."""
        return re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", self.out)[0]


class Project:
    """A committed copy of the project, with the settings of this cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
            if (ROOT / name).is_file() and not name.startswith("{{"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes((ROOT / name).read_bytes())
                (folder / name).chmod((ROOT / name).stat().st_mode)
        self._git("init", "--quiet")
        self.change("project.yaml", registry=os.environ.get("REGISTRY") or self.settings["registry"])
        (node,) = {one["metadata"]["labels"]["kubernetes.io/hostname"] for one in self.nodes()[:1]}
        path = folder / "infra/pv-pvc/kustomization.yaml"
        text = re.sub(r"(?m)^(      - node=)\S+", rf"\g<1>{node}", path.read_text())
        path.write_text(re.sub(r"(?m)(-path=)\S*/", rf"\g<1>{VOLUMES}/", text))
        self.command("pin")
        self.commit()

    @property
    def settings(self) -> dict[str, Any]:
        """The content of project.yaml."""
        content: dict[str, Any] = yaml.safe_load((self.folder / "project.yaml").read_text())
        return content

    @property
    def namespace(self) -> str:
        """The pipeline's namespace."""
        return re.findall(r"(?m)- namespace=(\S+)", (self.folder / "infra/pv-pvc/kustomization.yaml").read_text())[0]

    def image(self, name: str) -> str:
        """The image of a step."""
        return references(load_project(self.folder / "project.yaml"))[name]

    @staticmethod
    def nodes() -> list[dict[str, Any]]:
        """The nodes that pods without tolerations may run on."""
        found = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
        return [one for one in found if not one["spec"].get("unschedulable") and not one["spec"].get("taints")]

    def change(self, file: str, **changes: Any) -> None:
        """Change keys of a YAML file; of sections, only those given."""
        path = self.folder / file
        content = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            content[key] = {**content[key], **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(content))

    def command(self, *words: str) -> Submitted:
        """Run a command of the pipeline."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_MINUTES * 60,
        )
        return Submitted(done.returncode, done.stdout, done.stderr)

    def submit(self, *words: str) -> Submitted:
        """Commit what changed, run it on Kubeflow, and wait."""
        self.commit()
        done = self.command("submit", "--wait", "--poll", "2", *words)
        print(done.out, done.err)  # pytest shows it if the test fails
        return done

    def commit(self) -> None:
        """Commit everything."""
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", "-m", "A revision")

    def _git(self, *words: str) -> None:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        subprocess.run(["git", *who, *words], cwd=self.folder, check=True)
