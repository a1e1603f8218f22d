"""What Kubernetes would refuse hours later is refused where it is written: quantities, names and labels."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.settings import SettingsError, load_project
from tests.support.settings import PROJECT_FILE


def project(tmp_path: Path, **kubeflow: Any) -> Path:
    content = yaml.safe_load(PROJECT_FILE.read_text())
    content["kubeflow"].update(kubeflow)
    (tmp_path / "project.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "project.yaml"


def refused(path: Path) -> str:
    """The only line of the refusal, without the file's name."""
    with pytest.raises(SettingsError) as found:
        load_project(path)
    (line,) = str(found.value).splitlines()
    assert line.startswith((f"{path}: kubeflow.", f"{path}: kubeflow: "))
    return line.removeprefix(f"{path}: kubeflow")[1:].lstrip()


@pytest.mark.parametrize(
    ("quantities", "message"),
    [
        ({"memory": "9Gi"}, "memory is '9Gi', which is above memory_limit '8Gi'"),
        ({"memory_limit": "1G"}, "memory is '2Gi', which is above memory_limit '1G'"),
        ({"cpu": "4500m"}, "cpu is '4500m', which is above cpu_limit '4'"),
        ({"cpu": "4.001"}, "cpu is '4.001', which is above cpu_limit '4'"),
        *(({"memory": text}, f"memory: is '{text}'; it must be bytes") for text in ("4gb", "4GB", "4K", "4k", "0", "")),
        *(
            ({"memory": text}, f"memory: is '{text}'; it must be bytes")
            for text in ("1.5Gi", "-1Gi", "4 Gi", "64", "1Ki")
        ),
        *(({"cpu": text}, f"cpu: is '{text}'; it must be CPUs above 0") for text in ("0", "0m", "0.0", "-1", "1e3")),
        *(({"cpu": text}, f"cpu: is '{text}'; it must be CPUs above 0") for text in ("0.5m", "1.0001", "two", ".", "")),
        ({"memory": 4}, "memory: is 4; it must be a text"),
        ({"cores": "4"}, "cores: there is no such key"),
    ],
)
def test_a_wrong_quantity_is_named(tmp_path: Path, quantities: dict[str, Any], message: str) -> None:
    said = refused(project(tmp_path, resources={"train": quantities}))
    assert said.startswith("resources.train")
    assert message in said


@pytest.mark.parametrize(
    "quantities",
    [
        {"cpu": "4", "memory": "8Gi"},
        {"cpu": "0.5"},
        {"cpu": ".5"},
        {"cpu": "1m"},
        {"memory": "16777216"},
        {"memory": "8G"},
    ],
)
def test_a_quantity_of_kubernetes_is_taken(tmp_path: Path, quantities: dict[str, str]) -> None:
    found = load_project(project(tmp_path, resources={"train": quantities})).kubeflow.resources["train"]
    assert {key: getattr(found, key) for key in quantities} == quantities


@pytest.mark.parametrize("key", ["service_account", "image_pull_secret", "webhook_secret"])
@pytest.mark.parametrize(
    "name", ["A", "a_b", "-a", "a-", "a..b", "a.-b", "a" * 64, "a b", "", ".".join(["a" * 60] * 5)]
)
def test_a_name_that_no_object_can_have_is_refused(tmp_path: Path, key: str, name: str) -> None:
    assert refused(project(tmp_path, **{key: name})).startswith(f"{key}: is {name!r}; it must be a name of Kubernetes")


def test_a_name_may_have_dots(tmp_path: Path) -> None:
    assert load_project(project(tmp_path, service_account="a.b-c.9")).kubeflow.service_account == "a.b-c.9"


@pytest.mark.parametrize("name", ["a.b", "A", "a" * 64, "-", ""])
def test_a_namespace_has_no_dots(tmp_path: Path, name: str) -> None:
    said = refused(project(tmp_path, serving_namespace=name))
    assert said.startswith(f"serving_namespace: is {name!r}; it must be a namespace")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"a b": "x"}, "has the label 'a b', which must be at most 63"),
        ({"UPPER.example/x": "y"}, "has the label 'UPPER.example/x'"),
        ({"/x": "y"}, "has the label '/x'"),
        ({"a/b/c": "y"}, "has the label 'a/b/c'"),
        ({"x" * 64: "y"}, "has the label 'xxx"),
        ({"gpu": "yes please"}, "has the label gpu with 'yes please'"),
        ({"gpu": "x" * 64}, "has the label gpu with 'xxx"),
        ({"gpu": True}, "gpu: is True; it must be a text, quoted if it looks like"),
    ],
)
def test_a_label_that_no_node_can_have_is_refused(tmp_path: Path, labels: dict[str, Any], message: str) -> None:
    said = refused(project(tmp_path, node_selector=labels))
    assert said.startswith("node_selector")
    assert message in said


def test_labels_of_kubernetes_are_taken(tmp_path: Path) -> None:
    labels = {"kubernetes.io/hostname": "node-1.example", "Disk_Type": "", "topology.kubernetes.io/zone": "A_1.b"}
    assert load_project(project(tmp_path, node_selector=labels)).kubeflow.node_selector == labels


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ({"trian": {}}, "there is no step trian; the steps are preprocess"),
        ({"train": {"selector": {"a b": "x"}}}, "has the label 'a b', which must be"),
        ({"train": {"tolerations": [{"value": "x"}]}}, "has no key, which only the operator Exists may leave out"),
        ({"train": {"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}}, "does not compare: remove it"),
        ({"train": {"tolerations": [{"key": "a/b/c"}]}}, "has the label 'a/b/c'"),
        ({"train": {"tolerations": [{"key": "a", "value": "not this"}]}}, "has 'not this', which must be at most 63"),
        ({"train": {"tolerations": [{"key": "a", "effect": "Sometimes"}]}}, "is 'Sometimes'"),
        ({"train": {"tolerations": {"key": "a"}}}, "it must be a list, such as [a, b]"),
        ({"train": {"taints": []}}, "there is no such key"),
    ],
)
def test_nodes_that_kubernetes_would_refuse_are_refused(tmp_path: Path, nodes: dict[str, Any], message: str) -> None:
    said = refused(project(tmp_path, nodes=nodes))
    assert said.startswith("nodes")
    assert message in said


def test_nodes_of_kubernetes_are_taken(tmp_path: Path) -> None:
    given = {"selector": {"gpu": "true"}, "tolerations": [{"operator": "Exists"}, {"key": "gpu", "value": ""}]}
    kubeflow = load_project(project(tmp_path, nodes={"train": given}, node_selector={"disk": "fast"})).kubeflow
    assert kubeflow.selector("train") == {"disk": "fast", "gpu": "true"}
    assert kubeflow.selector("embed") == {"disk": "fast"}
    assert [each.manifest() for each in kubeflow.tolerations("train")] == [
        {"operator": "Exists"},
        {"key": "gpu", "operator": "Equal", "value": ""},
    ]


@pytest.mark.parametrize(
    ("kubeflow", "message"),
    [
        ({"train": {"nodes": 0}}, "train.nodes: is 0; input should be greater than or equal to 1"),
        ({"train": {"nodes": "2"}}, "train.nodes: is '2'"),
        ({"train": {"gpus_per_node": -1}}, "train.gpus_per_node: is -1"),
        ({"train": {"nodes": 1, "gpus_per_node": 1}}, "train: is one process, which trains in the step's own pod"),
        ({"train": {"nodes": 2}, "gpus": 1}, "gpus is 1, which are for train on one node: with train.nodes or"),
        ({"train": {"nodes": 2}, "name_prefix": "p" * 25}, "and with train.nodes or train.gpus_per_node above 1 at m"),
    ],
)
def test_a_training_that_cannot_be_is_refused(tmp_path: Path, kubeflow: dict[str, Any], message: str) -> None:
    assert message in refused(project(tmp_path, **kubeflow))


@pytest.mark.parametrize("platforms", [[], ["linux/riscv64"], ["amd64"], "linux/amd64"])
def test_an_unknown_platform_is_refused(tmp_path: Path, platforms: Any) -> None:
    assert refused(project(tmp_path, platforms=platforms)).startswith("platforms")


def test_a_password_in_the_registrys_name_is_not_shown(tmp_path: Path) -> None:
    path = project(tmp_path)
    path.write_text(path.read_text().replace("localhost:5000", "https://me:hidden@ghcr.example/x"))
    with pytest.raises(SettingsError) as found:
        load_project(path)
    assert "registry: is" in str(found.value)
    assert "hidden" not in str(found.value)
