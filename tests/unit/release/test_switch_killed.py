"""Every transition of a switch is killed after each of its effects; the next command leaves one consistent end."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
from tests.support.switching import log, pointed, serve, switches

EARLIER = Path(__file__).parent / "earlier_volumes"


class Case(NamedTuple):
    """Versions that are current one after the other, then what is killed, and what it would have made current."""

    before: tuple[str, ...]
    work: Callable[[], object]
    to: str
    least: int  # kills, so that the table does not shrink unseen


ONE_MACHINE = {
    "the first model": Case((), lambda: serve("v1"), "v1", 12),
    "a model": Case(("v1",), lambda: serve("v2"), "v2", 12),
    "another image": Case(("v1",), lambda: serve("v1", image="serving:2"), "v1", 12),
    "a rollback": Case(("v1", "v2"), rollback, "v1", 8),
}


def check(volume: Path, cluster: Cluster | None = None) -> None:
    """Journal, files and pods say one thing, and each change of the history begins where the one before ended."""
    status = read_status()
    assert status.finished
    assert status.current == read_pointer()
    assert not [line for line in versions() if "journal" in line or "not confirmed" in line]
    history = status.history
    assert [change.before for change in history] == [None, *(change.version for change in history)][: len(history)]
    if pointer := read_pointer():
        check_archive(served_pointer(volume, pointer.version))
    if cluster:
        assert cluster.stamp == (pointer.version if pointer else None)
        assert cluster.image == (pointer.image if pointer else "serving:old")
        assert {pod.version for pod in cluster.pods if pod.ready} == {cluster.stamp}


def check_served(volume: Path, cluster: Cluster | None = None) -> None:
    """What a killed run leaves can be served: the pointer, and what the pods are stamped with."""
    if read_pointer():
        check_archive(served_pointer(volume))
    if cluster and cluster.stamp:
        check_archive(served_pointer(volume, cluster.stamp))


def laid(volume: Path, case: Case, cluster: Cluster | None = None) -> None:
    shutil.rmtree(volume)
    (volume / "model-store").mkdir(parents=True)
    if cluster:
        cluster.__init__(rules=ALL)  # type: ignore[misc]
    for version in case.before:
        serve(version, image="serving:1")


@pytest.mark.parametrize("name", ONE_MACHINE)
def test_a_switch_on_one_machine(deploy_volume: Path, name: str) -> None:
    case, killed, whole = ONE_MACHINE[name], 0, None
    for then in ("again", "another", "rebuild"):
        number = 0
        laid(deploy_volume, case)
        killed_after(0, case.work)
        whole = switches()
        while True:
            number += 1
            laid(deploy_volume, case)
            if not killed_after(number, case.work):
                break
            killed += 1
            check_served(deploy_volume)
            reached = read_pointer()
            if then == "another":
                serve("v3")
                assert pointed().version == "v3"
            elif then == "rebuild":
                rebuild()
                assert read_pointer() == reached, "which nobody set by hand"
            elif name == "a rollback":
                assert f"{rollback('v1')} " in ("ROLLED BACK to v1 (was v2) ", "v1 is served already ")
            else:
                case.work()
            check(deploy_volume)
            if then == "again":
                assert switches() == whole
                assert pointed().version == case.to
    assert killed >= 3 * case.least


CLUSTER = {
    "the first model": Case((), lambda: serve("v1"), "v1", 16),
    "a model": Case(("v1",), lambda: serve("v2"), "v2", 16),
    "another image": Case(("v1",), lambda: serve("v1", image="serving:2"), "v1", 16),
    "a rollback": Case(("v1", "v2"), lambda: rollback("v1"), "v1", 12),
}


def broken(cluster: Cluster, version: str, *, stuck: bool = False) -> None:
    """The pods of this version do not come; if stuck, the account loses its right to patch with the first patch."""
    cluster.broken[version] = waiting("ImagePullBackOff", "")

    def no_more() -> None:
        cluster.rules = [{**rule, "verbs": ["get", "list"]} for rule in ALL]

    if stuck:
        cluster.on_patch = no_more


@pytest.mark.parametrize("name", CLUSTER)
@pytest.mark.parametrize("pods", ["come", "do not come", "cannot be set back"])
def test_a_rollout(cluster: Cluster, volumes: Path, name: str, pods: str) -> None:
    volume, case, killed, number = volumes / "deploy-model", CLUSTER[name], 0, 0
    while True:
        number += 1
        laid(volume, case, cluster)
        start = (read_pointer(), cluster.stamp, cluster.image)
        if pods != "come":
            broken(cluster, case.to, stuck=pods == "cannot be set back")
            if name == "another image":
                cluster.on_patch = _heal_with(cluster, "serving:1", cluster.on_patch)
        if not killed_after(number, case.work):
            break
        killed += 1
        check_served(volume, cluster)
        cluster.rules, cluster.on_patch = ALL, lambda: None
        if pods == "come":
            case.work()
            assert (pointed().version, cluster.stamp) == (case.to, case.to)
            assert log()[-1][1] == case.to
        elif name != "another image":
            again(case, start)
            assert (read_pointer(), cluster.stamp, cluster.image) == start
        cluster.broken.clear()
        check_or_finish(case, volume, cluster)
    assert killed >= case.least


def _heal_with(cluster: Cluster, image: str, also: Callable[[], None]) -> Callable[[], None]:
    def heal() -> None:
        also()
        if cluster.image == image:
            cluster.broken.clear()

    return heal


def again(case: Case, start: tuple[Any, ...]) -> None:
    """The same command, whose version does not come up; unless it was taken back already and waits no longer."""
    with pytest.raises(SwitchError, match=f"{case.to} was not rolled out"):
        case.work()


def check_or_finish(case: Case, volume: Path, cluster: Cluster) -> None:
    """After one more command that can go on, whatever is unfinished, all is consistent."""
    if not read_status().finished or cluster.stamp is None:
        serve("v3")
    check(volume, cluster)


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
        laid(deploy_volume, Case(("v1", "v2"), rollback, "v1", 0))
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
