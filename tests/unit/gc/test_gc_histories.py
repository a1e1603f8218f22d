"""Random histories of runs, rollbacks, days that pass and gc: gc keeps what it must, and nothing else."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

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


@settings(
    max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(actions=st.lists(_ACTIONS, min_size=6, max_size=12))
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
        deployed: dict[str, Run] = {}
        day, last = 0.0, ("a", "1", 3)
        for action, *words in [*actions, ("gc",)]:
            if action == "run":
                last = words
                run = small_run(*last)
                used |= dict.fromkeys(run.paths().values(), day)
                deployed.setdefault(run.version, run)
            elif action == "days":
                day += words[0]
                pass_days(volumes, words[0])
            elif action == "rollback":
                if len(lineage(read_status().history)) > 1:
                    rollback()
            else:
                collect(volumes, {path for path, at in used.items() if day - at < KEEP_DAYS}, deployed)
        small_run(*last)
        assert small_run(*last).anew <= {"verdict"}  # beside itself as the champion
        pass_days(volumes, 10 * KEEP_DAYS)
        delete(KEEP_DAYS)
        assert small_run(*last).anew == set()


def collect(volumes: Path, recent: set[Path], deployed: dict[str, Run]) -> None:
    before = versions()
    delete(KEEP_DAYS)
    assert versions() == before
    assert plan(KEEP_DAYS).delete == ()
    assert list(volumes.rglob("*.gone*")) == []
    there = {path.parent for path in volumes.glob(f"*/*/[!.]*/{MANIFEST}")}
    assert all(map(is_complete, there))
    assert recent <= there
    status = read_status()
    store = volumes / "deploy-model/model-store"
    kept = {version for version, record in status.records.items() if (store / record.mar).exists()}
    for version in kept:
        assert find_archive(status.records[version])
        assert {deployed[version].path(name) for name in _MODEL} <= there
    needed = {path for run in deployed.values() for path in run.paths().values() if run.version in kept}
    archives = {path.name for path in (volumes / "deploy-model").glob("backup/*.mar")}
    if not recent and not archives:
        assert there <= needed | {
            path for path in there if path.parent.name in ("calibration", "validation", "verdict")
        }
