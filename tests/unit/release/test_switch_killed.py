"""Every transition of a switch is killed after each of its effects; the next command leaves one consistent end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from serving.pointer import check_archive
from serving.pointer import read_pointer as served_pointer
from steps.common.pointer import read_pointer
from steps.deploy.release.journal import opened, read_status
from steps.deploy.release.rollback import rollback
from steps.deploy.release.switch import SwitchError
from steps.deploy.release.versions import rebuild, versions
from tests.stand_ins.kubernetes import ALL, Cluster, waiting
from tests.support.killing import killed_after
from tests.support.switching import pointed, serve, switches

EARLIER = Path(__file__).parent / "earlier_volumes"


class Case(NamedTuple):
    """Versions that are current one after the other, then what is killed, and what it would have made current."""

    before: tuple[str, ...]
    work: Callable[[], object]
    to: str


CASES = {
    "the first model": Case((), lambda: serve("v1"), "v1"),
    "a model": Case(("v1",), lambda: serve("v2"), "v2"),
    "another image": Case(("v1",), lambda: serve("v1", image="serving:2"), "v1"),
    "a rollback": Case(("v1", "v2"), lambda: rollback("v1"), "v1"),
}
slow = pytest.mark.slow


def check(volume: Path, cluster: Cluster | None = None) -> None:
    """Journal, files and pods say one thing, and each change of the history begins where the one before ended."""
    status = read_status()
    assert status.finished
    assert status.current == read_pointer()
    assert not [line for line in versions() if "journal" in line or "not confirmed" in line]
    history = status.history
    assert [change.before for change in history] == [None, *(change.version for change in history)][: len(history)]
    assert "unknown" not in {change.by for change in history}, "for nothing was changed by hand"
    if pointer := read_pointer():
        check_archive(served_pointer(volume, pointer.version))
    if cluster:
        assert cluster.stamp == (pointer.version if pointer else None)
        assert cluster.image == (pointer.image if pointer else "serving:old")
        assert {pod.version for pod in cluster.pods if pod.ready} == {cluster.stamp}


def check_served(volume: Path, cluster: Cluster | None = None) -> None:
    """What a killed run leaves can be served: the pointer, and what the pods are stamped with."""
    if pointer := read_pointer():
        check_archive(served_pointer(volume))
        check_archive(served_pointer(volume, pointer.version))
    if cluster and cluster.stamp:
        check_archive(served_pointer(volume, cluster.stamp))


def laid(volume: Path, case: Case, cluster: Cluster | None = None) -> None:
    shutil.rmtree(volume)
    (volume / "model-store").mkdir(parents=True)
    if cluster:
        cluster.__init__(rules=ALL)  # type: ignore[misc]
    for version in case.before:
        serve(version, image="serving:1")


FEW_SWITCHES = [("a model", "again", 5), ("a model", "rebuild", 5), ("a rollback", "again", 5)]
ALL_SWITCHES = [pytest.param(name, then, 1, marks=slow) for name in CASES for then in ("again", "another", "rebuild")]


@pytest.mark.parametrize(("name", "then", "every"), [*FEW_SWITCHES, *ALL_SWITCHES])
def test_a_switch_on_one_machine(deploy_volume: Path, name: str, then: str, every: int) -> None:
    """It is killed after each effect, or after every fifth."""
    case, number = CASES[name], 0
    laid(deploy_volume, case)
    killed_after(0, case.work)
    whole = switches()
    while True:
        number += every
        laid(deploy_volume, case)
        if not killed_after(number, case.work):
            break
        check_served(deploy_volume)
        reached = read_pointer()
        if then == "again":
            case.work()
            assert (switches(), pointed().version) == (whole, case.to)
        elif then == "another":
            serve("v3")
            assert pointed().version == "v3"
        else:
            rebuild()
            assert read_pointer() == reached, "which nobody set by hand"
        check(deploy_volume)
    assert number > 15, "effects"


COME, BROKEN, STUCK = "come", "do not come", "cannot be set back"
FEW_ROLLOUTS = [pytest.param("a model", pods, "again", 9) for pods in (COME, BROKEN)]
ALL_ROLLOUTS = [
    pytest.param(name, pods, then, 1, marks=slow)
    for name in CASES
    for pods in (COME, BROKEN, STUCK)
    for then in ("again", "another", "another that fails", *(["again and failing"] if pods == COME else []))
]


@pytest.mark.parametrize(("name", "pods", "then", "every"), [*FEW_ROLLOUTS, *ALL_ROLLOUTS])
def test_a_rollout(cluster: Cluster, volumes: Path, name: str, pods: str, then: str, every: int) -> None:
    """Its pods come or do not, and then cannot be set back since the account lost its right to patch.

    It is killed after each effect, or after every ninth.
    """
    volume, case, number = volumes / "deploy-model", CASES[name], 0
    while True:
        number += every
        laid(volume, case, cluster)
        start = (read_pointer(), cluster.stamp, cluster.image)
        if pods != COME:
            break_pods(cluster, case.to, stuck=pods == STUCK)
        if not killed_after(number, case.work):
            break
        check_served(volume, cluster)
        cluster.rules, cluster.on_patch = ALL, lambda: None
        finished = read_status().finished and pods == COME and read_pointer() != start[0]
        version = case.to if then.startswith("again") else "v3"
        fails = "fail" in then or (then == "again" and pods != COME)
        cluster.broken.clear()
        if fails:
            break_pods(cluster, version)
            for pod in cluster.pods:
                pod.ready = pod.ready and pod.version != version
            with pytest.raises(SwitchError, match=f"{version} was not rolled out"):
                case.work() if version == case.to else serve(version)
            assert read_status().finished
            if not finished:
                assert (read_pointer(), cluster.stamp, cluster.image) == start
        else:
            case.work() if version == case.to else serve(version)
            assert pointed().version == version
        cluster.broken.clear()
        settle_pods(cluster)
        check(volume, cluster)
    assert number > 15, "effects"


def break_pods(cluster: Cluster, version: str, *, stuck: bool = False) -> None:
    """The pods of this version do not come until it is set back; if stuck, nothing may be patched from then on."""
    cluster.broken[version] = waiting("ImagePullBackOff", "")
    patches: list[str | None] = []

    def patched() -> None:
        patches.append(cluster.stamp)
        if stuck:
            cluster.rules = [{**rule, "verbs": ["get", "list"]} for rule in ALL]
        elif len(patches) > 1:
            cluster.broken.clear()

    cluster.on_patch = patched


def settle_pods(cluster: Cluster) -> None:
    """Let the controller replace what is left of another template, and start what is not ready."""
    for _ in range(20):
        cluster._move()


@pytest.mark.parametrize("earlier", ["rolled-back", "unfinished"])
def test_volumes_of_an_earlier_version_are_taken_over(deploy_volume: Path, earlier: str) -> None:
    def take_over() -> None:
        with opened():
            pass

    def lay() -> None:
        shutil.rmtree(deploy_volume)
        shutil.copytree(EARLIER / earlier, deploy_volume)
        (deploy_volume / "model-store").mkdir()

    lay()
    take_over()
    whole, number = read_status(), 0
    while True:
        number += 1
        lay()
        if not killed_after(number, take_over):
            break
        take_over()
        found = read_status()
        assert (found.current, found.confirmed, found.template) == (whole.current, whole.confirmed, whole.template)
        assert (found.history, found.records) == (whole.history, whole.records)
    assert number > 4


def test_a_rebuild(deploy_volume: Path) -> None:
    number = 0
    while True:
        number += 1
        laid(deploy_volume, CASES["a rollback"])
        before = read_pointer()
        for path in (deploy_volume / "current.json", deploy_volume / "versions/v1.json"):
            path.write_text("{")
        (deploy_volume / "versions/v2.json").write_text(json.dumps({}))
        if not killed_after(number, rebuild):
            break
        rebuild()
        assert read_pointer() == before
        check(deploy_volume)
    assert number > 6
