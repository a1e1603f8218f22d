"""Fixtures of the tests of submitting and of switching: stand-ins on loopback, and a project that is committed."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from contract.paths import ROOT
from steps.common.digest import STEPS
from tests.stand_ins.kfp import Kfp
from tests.stand_ins.kfp_http import Server
from tests.stand_ins.kubernetes import Cluster
from tests.stand_ins.kubernetes_http import Server as ClusterServer
from tests.stand_ins.kubernetes_http import Service
from tests.support.kubeflow_project import DEPLOYED, Run, environment, git, log
from tests.support.switching import answers, kubeconfig


@pytest.fixture
def kfp() -> Kfp:
    made = Kfp()
    made.script, made.logs = list(DEPLOYED), {f"pod-{step}": log(step) for step in STEPS}
    return made


@pytest.fixture
def server(kfp: Kfp) -> Iterator[Server]:
    with Server(kfp) as running:
        yield running


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with everything committed."""
    folder = tmp_path_factory.mktemp("committed") / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("contract", "pipeline", "steps", "serving", "infra/pv-pvc"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("project.yaml", "params.yaml", ".gitignore"):
        shutil.copy2(ROOT / name, folder / name)
    git(folder, "init", "--quiet")
    return folder


@pytest.fixture
def run(committed: Path, server: Server) -> Run:
    """Run a command of the project, whose registry and Kubeflow are the stand-in."""
    path = committed / "project.yaml"
    settings = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**settings, "registry": server.address}))
    git(committed, "add", "--all")
    git(committed, "commit", "--quiet", "--allow-empty", "-m", "One")
    return lambda *words, **more: subprocess.run(
        [sys.executable, "-m", "pipeline", *words],
        cwd=committed,
        env=environment(server, **more),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def cluster(volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that kubectl's settings name, with the Role of infra/torchserve, and patience for a test."""
    from steps.deploy.release import deployment, rollout, service

    (volumes / "deploy-model/model-store").mkdir(parents=True)
    one = Cluster(rules=yaml.safe_load((ROOT / "infra/torchserve/base/rollout-role.yaml").read_text())["rules"])
    known = {version: answers(version) for version in ("v1", "v2", "v3")}
    with ClusterServer(one) as api, ClusterServer(Service(one, {None: {}, **known})) as before:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", api.url)))
        monkeypatch.setenv("SERVING_NAMESPACE", "kubeflow")
        monkeypatch.setenv("SERVING_URL", before.url)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(rollout, "POLL_SECONDS", 0.002)
        monkeypatch.setattr(rollout, "ROLLOUT_SECONDS", 10)  # where it waits for what never comes, a test fails
        monkeypatch.setattr(deployment, "BACKOFF_SECONDS", 0.001)
        monkeypatch.setattr(service, "PAUSE_SECONDS", 0.002)
        monkeypatch.setattr(service, "ASK_SECONDS", 0.5)
        yield one


@pytest.fixture
def deploy_volume(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing was served yet, on one machine."""
    for name in ("SERVING_NAMESPACE", "RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    (volumes / "deploy-model/model-store").mkdir(parents=True)
    return volumes / "deploy-model"
