"""A throw-away cluster that has Kubeflow Pipelines, and a copy of this project that runs on it.

Needs KUBECONFIG, KFP_HOST, and a registry: REGISTRY, or that of project.yaml. docs/kubeflow.md says how to make one.
"""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.cluster_project import Project


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave these tests out unless they are asked for with `-m cluster`."""
    if "cluster" in (config.getoption("markexpr") or ""):
        return
    left_out = [item for item in items if item.get_closest_marker("cluster")]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project, its images pushed."""
    for name in ("KUBECONFIG", "KFP_HOST"):
        assert os.environ.get(name), f"{name} is not set: name a throw-away cluster, see docs/kubeflow.md"
    made = Project(tmp_path_factory.mktemp("cluster") / "project")
    pushed = made.command("push")
    assert pushed.status == 0, pushed.err
    return made


@pytest.fixture(scope="session")
def address(project: Project) -> Iterator[str]:
    """The address for predictions: the Service of serving, through the API server."""
    namespace = project.settings["kubeflow"]["serving_namespace"]
    with subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout
        host = proxy.stdout.readline().split()[-1]
        service = f"api/v1/namespaces/{namespace}/services/http:torchserve:8080/proxy"
        yield f"http://{host}/{service}/predictions/{project.settings['name']}"
        proxy.terminate()
