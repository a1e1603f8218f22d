"""Two runs at once on two nodes of a network file system, whose locks end at the node: nothing is lost or half-made."""

import multiprocessing
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.journal import read_journal
from contract.paths import ROOT
from serving.pointer import read_deployed
from steps.common import store
from steps.common.images.facts import facts, packed
from steps.common.images.shards import Shards
from steps.common.images.stored import StoredImages
from tests.support.pipeline_run import QUICK, run_command
from tests.support.shared_mounts import mounted

pytestmark = pytest.mark.slow

FORK = multiprocessing.get_context("fork")
RESULTS = 8
FILES = 5
IMAGES = np.random.default_rng(0).integers(0, 256, (400, 4, 4, 1), dtype=np.uint8)
KEYS = [f"{number:032x}" for number in range(len(IMAGES))]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Path]]:
    """Two nodes' mounts of one server's folder."""
    places = [tmp_path / "node-1", tmp_path / "node-2"]
    with mounted(tmp_path / "server", places):
        yield places


def build(folder: Path) -> dict[str, Any]:
    for number in range(FILES):
        (folder / f"{number}.txt").write_text(str(number) * 10_000)
    return {}


def make_all(volume: Path) -> None:
    for number in range(RESULTS):
        made = store.produce(
            volume,
            "network",
            "train",
            parameters={"number": number},
            inputs={},
            build=build,
            code=("steps.common.images.format",),
        )
        assert len(store.read(volume, "network", made.id).manifest["files"]) == FILES


def append(volume: Path, first: int, last: int) -> None:
    shards = Shards(volume, IMAGES.shape[1:])
    for start in range(first, last, 25):
        rows = slice(start, start + 25)
        with shards.appending() as appender:
            appender.append(facts(KEYS[rows], IMAGES[rows]), IMAGES[rows])


def at_once(*processes: Any) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_two_nodes_make_the_same_results_at_once(nodes: list[Path]) -> None:
    at_once(*(FORK.Process(target=make_all, args=(node,)) for node in nodes))
    shelf = nodes[0].with_name("server") / "network"
    made = [path for path in shelf.iterdir() if path.is_dir()]
    assert len(made) == RESULTS
    assert all(len(list(path.iterdir())) == FILES + 1 for path in made)


def test_two_nodes_decode_at_once(nodes: list[Path]) -> None:
    halves = ((0, 250), (150, 400))
    at_once(*(FORK.Process(target=append, args=(node, *rows)) for node, rows in zip(nodes, halves, strict=True)))
    kept = StoredImages(Shards(nodes[0].with_name("server"), IMAGES.shape[1:]), KEYS)
    assert (kept[:] == IMAGES).all()
    assert (kept.facts["key"] == packed(KEYS)).all()


def test_two_nodes_run_the_whole_pipeline_at_once(nodes: list[Path]) -> None:
    change = {**QUICK, "deploy": {"without_locks": True}}
    commands = [run_command(node, change) for node in nodes]
    output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with ExitStack() as stack:
        runs = [stack.enter_context(subprocess.Popen(command, cwd=ROOT, **output)) for command in commands]
        outputs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(outputs)
    lasts = [output.splitlines()[-1] for output in outputs]
    assert {last.split()[0] for last in lasts} <= {"DEPLOYED", "UNCHANGED"}
    deployed = [read_deployed(node / "deploy-model") for node in nodes]
    assert {each.version for each in deployed} == {last.split()[1].rstrip(":") for last in lasts}
    assert {entry.version for entry in read_journal(nodes[0] / "deploy-model")} == {deployed[0].version}
