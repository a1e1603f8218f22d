"""Each step uses every volume that it mounts on Kubeflow, and works without the others."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from steps.analyse.analyse import analyse
from steps.common.settled import recall, remember
from steps.deploy.deploy import deploy
from steps.embed.embed import embed
from steps.index.index import index
from steps.preprocess.preprocess import preprocess
from steps.registry import TASKS
from steps.report.report import report
from steps.train.train import train
from steps.validate.validate import validate
from tests.support.examples import PARAMS, judging

_watched: list[Callable[[str], None]] = []


def _audit(event: str, values: tuple[Any, ...]) -> None:
    if _watched and event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename"):
        for value in values:
            if isinstance(value, str | os.PathLike):
                _watched[0](os.fspath(value))


@contextmanager
def mounted(step: str, volumes: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show a step only its own volumes; afterwards check that it used each of them and created no other."""
    view, touched = volumes.parent / step, set[str]()
    view.mkdir()
    for path in TASKS[step].mounts:
        (view / path[1:]).symlink_to(volumes / path[1:])

    def watch(path: str) -> None:
        if path.startswith(f"{view}/"):
            touched.add(path.removeprefix(f"{view}/").split("/")[0])

    monkeypatch.setenv("VOLUMES", str(view))
    _watched.append(watch)
    try:
        yield
    finally:
        _watched.clear()
    assert {f"/{name}" for name in touched} == set(TASKS[step].mounts), step
    assert {f"/{path.name}" for path in view.iterdir()} == set(TASKS[step].mounts), step


@pytest.mark.slow
def test_each_step_uses_the_volumes_that_it_mounts_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.addaudithook(_audit)
    volumes = tmp_path / "volumes"
    for name in ("data", "model", "deploy-model"):
        (volumes / name).mkdir(parents=True)
    data = PARAMS["data"]
    monkeypatch.setenv("RUN_ID", "run-1")  # so that each step records for the report
    monkeypatch.setenv("VOLUMES", str(volumes))
    remember("work", "UNCHANGED", {})
    with mounted("preprocess", volumes, monkeypatch):
        ids = preprocess(data)
        recall("work", "preprocess")
    (volumes / "model/runs/run-1/settled.json").unlink()
    with mounted("validate", volumes, monkeypatch):
        others = {"embedding_size": PARAMS["train"]["embedding_size"], "factory": PARAMS["index"]["factory"]}
        validate(ids, data, PARAMS["validate"], source=data["source"], allow_lost_classes=[], **others)
    with mounted("train", volumes, monkeypatch):
        network = train(ids["train"], ids["validation"], {**PARAMS["train"], "epochs": 2})
    with mounted("embed", volumes, monkeypatch):
        embeddings = embed(ids["gallery"], network, PARAMS["embed"])
    with mounted("index", volumes, monkeypatch):
        faiss = index(embeddings, PARAMS["index"])
    with mounted("analyse", volumes, monkeypatch):
        settings = judging()
        verdict = analyse(ids["test"], network, faiss, ids["validation"], **settings)
    with mounted("deploy", volumes, monkeypatch):
        version = deploy(network, faiss, verdict.id, name="digits", parameters=PARAMS["deploy"])
    with mounted("report", volumes, monkeypatch):
        assert f"SUCCESS {version}" in report("digits", "SUCCEEDED", "")
