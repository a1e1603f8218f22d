"""Fixtures of the tests of releases: a stand-in cluster on loopback, and an empty volume of deploy's."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from contract.paths import ROOT
from tests.stand_ins.kubernetes import Cluster
from tests.stand_ins.kubernetes_http import Server, Service
from tests.support.switching import answers, kubeconfig


class QuickTime:
    """The time of which a rollout waits: sleeping takes none, and the clock is later by it."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


@pytest.fixture
def cluster(volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that kubectl's settings name, with the Role of infra/torchserve, and patience for a test."""
    from kubernetes.client import Configuration

    from steps.common.cluster import api as kubernetes
    from steps.deploy.release.cluster import rollout, service

    (volumes / "deploy-model/model-store").mkdir(parents=True)
    one = Cluster(rules=yaml.safe_load((ROOT / "infra/torchserve/base/rollout-role.yaml").read_text())["rules"])
    known = {version: answers(version) for version in ("v1", "v2", "v3")}
    with Server(one) as api, Server(Service(one, {None: {}, **known})) as before:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", api.url)))
        monkeypatch.setenv("SERVING_NAMESPACE", "kubeflow")
        monkeypatch.setenv("SERVING_URL", before.url)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        for module in (rollout, service):
            monkeypatch.setattr(module, "time", QuickTime())
        monkeypatch.setattr(rollout, "LATER_SECONDS", 9)
        monkeypatch.setattr(rollout, "ROLLOUT_SECONDS", 100)  # where it waits for what never comes, a test fails
        monkeypatch.setattr(kubernetes, "BACKOFF_SECONDS", 0.001)
        monkeypatch.setattr(service, "PAUSE_SECONDS", 0.02)
        monkeypatch.setattr(service, "ASK_SECONDS", 0.5)
        # The client sets the level of its loggers with each object, and that forgets what all loggers know.
        monkeypatch.setattr(Configuration, "debug", False)
        yield one


@pytest.fixture
def deploy_volume(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nothing was served yet, on one machine."""
    for name in ("SERVING_NAMESPACE", "RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    (volumes / "deploy-model/model-store").mkdir(parents=True)
    return volumes / "deploy-model"
