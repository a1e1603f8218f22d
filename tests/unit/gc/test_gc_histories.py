"""Random histories of runs, rollbacks, days that pass and gc: gc keeps what it must, and nothing else."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from steps.common.errors import StepError
from steps.common.store import MANIFEST
from steps.deploy.gc.delete import delete
from steps.deploy.gc.plan import plan
from steps.deploy.release.archives import find_archive
from steps.deploy.release.history import lineage
from steps.deploy.release.journal import read_status
from steps.deploy.release.rollback import rollback
from steps.deploy.release.versions import versions
from tests.support.small_run import Run, is_complete, pass_days, small_run

KEEP_DAYS = 10
_MODEL = ("train", "validation", "gallery", "test", "network", "embeddings", "index", "evaluation", "archive")
_ACTIONS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from("abc"), st.sampled_from("12"), st.integers(1, 3)),
    st.tuples(st.just("days"), st.sampled_from([1, 6, 30])),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("gc")),
)
_BACK_TWICE = [*(("run", data, "1", 1) for data in "abc"), ("days", 30), ("gc",), ("rollback",), ("rollback",)]
_DEPLOYED_AGAIN = [*(("run", data, "1", 3) for data in "aba"), ("days", 30)]  # after another champion


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(actions=st.lists(_ACTIONS, min_size=6, max_size=12))
@example(actions=_BACK_TWICE)
@example(actions=_DEPLOYED_AGAIN)
def test_a_few_histories(actions: list[tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> None:
    live(actions, tmp_path_factory.mktemp("history"))


@pytest.mark.slow
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=st.lists(_ACTIONS, min_size=6, max_size=40))
def test_many_histories(actions: list[tuple[str, ...]], tmp_path_factory: pytest.TempPathFactory) -> None:
    live(actions, tmp_path_factory.mktemp("history"))


def live(actions: list[tuple[str, ...]], volumes: Path) -> None:
    """Do all of this on new volumes, then collect, and look after each collection."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOLUMES", str(volumes))
        for name in ("data", "model", "deploy-model/model-store"):
            (volumes / name).mkdir(parents=True)
        used: dict[Path, float] = {}  # the day of its last use
        deployed: dict[str, Run] = {}  # the run that deployed a version last; its record names that one's verdict
        ended: dict[str, float] = {}  # the day on which a version was current last
        day, last = 0.0, ("a", "1", 3)
        for action, *words in [*actions, ("gc",)]:
            before = read_status().version
            if before:
                ended[before] = day
            if action == "run":
                last = words
                run = small_run(*last)
                used |= dict.fromkeys(run.paths().values(), day)
                if run.version != before:
                    deployed[run.version] = run
            elif action == "days":
                day += words[0]
                pass_days(volumes, words[0])
            elif action == "rollback":
                if to := goes_back_to():
                    # Collected after a rollback, or a deployment, that made another the one to go back to.
                    with nullcontext() if archives(volumes, to) else pytest.raises(StepError, match=f"{to} is lost"):
                        rollback()
            else:
                served = {version for version, at in ended.items() if day - at < KEEP_DAYS}
                collect(volumes, {path for path, at in used.items() if day - at < KEEP_DAYS}, served, deployed)
        small_run(*last)
        assert small_run(*last).anew <= {"verdict"}  # beside itself as the champion
        pass_days(volumes, 10 * KEEP_DAYS)
        delete(KEEP_DAYS)
        assert small_run(*last).anew == set()


def goes_back_to() -> str | None:
    """The version that `make rollback` goes to."""
    path = lineage(read_status().history)
    return path[-2] if len(path) > 1 else None


def archives(volumes: Path, version: str) -> list[Path]:
    """The archives of a version, in the model store and in backup."""
    return list((volumes / "deploy-model").glob(f"*/digits_{version}.mar"))


def collect(volumes: Path, recent: set[Path], served: set[str], deployed: dict[str, Run]) -> None:
    """Collect, and look: `recent` are the artefacts that runs of the last days used, `served` the current versions."""
    before = versions()
    store = volumes / "deploy-model/model-store"
    had = {version for version in deployed if archives(volumes, version)}
    in_store = {version for version in deployed if (store / f"digits_{version}.mar").exists()}
    delete(KEEP_DAYS)
    assert versions() == before
    assert plan(KEEP_DAYS).delete == ()
    assert list(volumes.rglob("*.gone*")) == []
    there = {path.parent for path in volumes.glob(f"*/*/[!.]*/{MANIFEST}")}
    assert all(map(is_complete, there))
    assert recent <= there
    status = read_status()
    kept = {version for version in deployed if archives(volumes, version)}
    assert kept == had & {*in_store, *served, status.version, goes_back_to()}
    for version in kept:
        assert find_archive(status.records[version])
        assert {deployed[version].path(name) for name in (*_MODEL, "verdict")} <= there
    needed = {path for version in kept for path in deployed[version].paths().values()}
    if not recent:
        assert there <= needed | {
            path for path in there if path.parent.name in ("calibration", "validation", "verdict")
        }
