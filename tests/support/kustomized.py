"""The output of `kubectl kustomize infra/torchserve`, for the tests of serving on Kubernetes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from contract.paths import ROOT

FOLDER = ROOT / "infra/torchserve"
ACCOUNT = "train-pipeline"  # of the pods of the pipeline
COMPONENTS = ("autoscaling", "collect", "drift", "ingress", "monitoring")
CUSTOM = {
    "ServiceMonitor",
    "PrometheusRule",
}  # custom resources of the Prometheus Operator, which kubernetes_validate does not know

Objects = dict[tuple[str, str], dict[str, Any]]


def built(folder: Path) -> Objects:
    """The objects that the kubectl of requirements.txt builds from a folder, by kind and name."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kubectl = shutil.which("kubectl", path=path)
    assert kubectl, "kubectl is not installed: make install"
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    made = [(one["kind"], one["metadata"]["name"], one) for one in yaml.safe_load_all(done.stdout)]
    assert len({(kind, name) for kind, name, _ in made}) == len(made)
    return {(kind, name): one for kind, name, one in made}


def changed(folder: Path, components: tuple[str, ...] = (), **settings: str) -> Objects:
    """The objects with these components uncommented and these settings changed."""
    target = shutil.copytree(FOLDER, folder / "torchserve", dirs_exist_ok=True)
    path = target / "kustomization.yaml"
    text = (FOLDER / "kustomization.yaml").read_text()
    for component in components:
        assert f"  # - components/{component}\n" in text
        text = text.replace(f"  # - components/{component}\n", f"  - components/{component}\n")
    for name, value in settings.items():
        key = name.replace("_", "-")
        text, count = re.subn(rf"(?m)^({key}: |      - {key}=)\S+", rf"\g<1>{value}", text)
        assert count == 1, key
    path.write_text(text)
    return built(target)


def deployment(made: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = made["Deployment", "torchserve"]["spec"]
    return spec


def pod(made: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = deployment(made)["template"]["spec"]
    return spec


def container(made: Objects) -> dict[str, Any]:
    (only,) = pod(made)["containers"]
    found: dict[str, Any] = only
    return found


def project_name() -> str:
    """What the manifests call the project, which is its name when it is made."""
    text = (ROOT / "infra/pv-pvc/kustomization.yaml").read_text()
    return re.findall(r"(?m)^ +- project=(\S+)", text)[0]
