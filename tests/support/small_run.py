"""A run in a hundredth of a second: the artefacts, inputs and switches of the pipeline's steps, without their work.

And time that passes: every time stamp on the volumes goes back by some days.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from contract.journal import Event
from contract.pointer import Record
from steps.common.digest import file_sha256
from steps.common.pointer import read_pointer
from steps.common.store import MANIFEST, produce, read
from steps.common.volumes import deploy_volume
from steps.deploy.release.actor import now
from steps.deploy.release.archives import retire_archives
from steps.deploy.release.journal import opened
from steps.deploy.release.switch import confirm, switch

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")


@dataclass
class Run:
    """What a run used: the id of each artefact by its name, and the kinds of those that it made anew."""

    ids: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    anew: set[str] = field(default_factory=set)

    @property
    def version(self) -> str:
        """The version that it deployed, or found deployed."""
        return self.ids["archive"]

    def path(self, name: str) -> Path:
        """The folder of an artefact."""
        return _volume(self.kinds[name]) / self.kinds[name] / self.ids[name]

    def paths(self) -> dict[str, Path]:
        """The folder of each artefact, by its name."""
        return {name: self.path(name) for name in self.ids}


def is_complete(path: Path) -> bool:
    """Whether an artefact is there, with all of its files; unlike a step, this does not use it."""
    try:
        files = json.loads((path / MANIFEST).read_text())["files"]
    except (OSError, ValueError):
        return False
    return all((path / name).is_file() for name in files)


def small_run(data: str = "a", training: str = "1", keep: int = 3) -> Run:
    """Make what a run on these data, under these parameters of training, makes, and deploy it."""
    run = Run()

    def make(name: str, kind: str, parameters: Mapping[str, Any], **inputs: str | None) -> str:
        def build(folder: Path) -> dict[str, Any]:
            (folder / "content").write_text(f"{name} {parameters} {inputs}")
            return {}

        for used in run.ids.keys() & inputs.keys():  # as a step reads what it is made of
            read(_volume(run.kinds[used]), run.kinds[used], run.ids[used])
        made = produce(
            _volume(kind),
            kind,
            "index",
            parameters={"name": kind, **parameters},
            inputs=inputs,
            build=build,
            code=CODE,
        )
        run.ids[name], run.kinds[name] = made.id, kind
        run.anew |= set() if made.unchanged else {name}
        return made.id

    splits = {
        split: make(split, "dataset", {}, images=hashlib.sha256(f"{data} {split}".encode()).hexdigest()[:16])
        for split in ("train", "validation", "gallery", "test")
    }
    make("sound", "validation", {}, **splits)
    network = make("network", "network", {"training": training}, train=splits["train"], validation=splits["validation"])
    embeddings = make("embeddings", "embeddings", {}, gallery=splits["gallery"], network=network)
    index = make("index", "index", {}, embeddings=embeddings)
    model = {"network": network, "index": index}
    make("calibration", "calibration", {}, validation=splits["validation"], **model)
    evaluation = make("evaluation", "evaluation", {}, test=splits["test"], **model)
    pointer, champion = read_pointer(), None
    if pointer and (pointer.network, pointer.index) != (network, index):
        of_pointer = {"network": pointer.network, "index": pointer.index}
        champion = make("of champion", "evaluation", {"archive": pointer.mar}, test=splits["test"], **of_pointer)
    verdict = make(
        "verdict", "verdict", {}, evaluation=evaluation, champion=champion or (evaluation if pointer else None)
    )
    make("archive", "archive", {}, **model)
    _deploy(run, model, splits, verdict, keep)
    return run


def pass_days(volumes: Path, days: float) -> None:
    """Let time pass: every file on the volumes, and every time in the journal, is older by so many days."""
    for path in (volumes, *volumes.rglob("*")):
        found = path.lstat()
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns - int(days * 24 * 3600 * 1e9)))
    for path in (
        deploy_volume() / "audit.jsonl",
        deploy_volume() / "current.json",
        *deploy_volume().glob("versions/*"),
    ):
        if path.is_file():
            stat, text = path.stat(), path.read_text()
            path.write_text(_TIME.sub(lambda at: _earlier(at[0], days), text))
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _volume(kind: str) -> Path:
    return Path(os.environ["VOLUMES"]) / ("data" if kind in ("dataset", "validation") else "model")


CODE = ("steps.common.images.png",)  # which is small, so that its digest is made at once


def _deploy(run: Run, model: Mapping[str, str], splits: Mapping[str, str], verdict: str, keep: int) -> None:
    name = f"digits_{run.version}.mar"
    mar = deploy_volume() / "model-store" / name
    mar.parent.mkdir(parents=True, exist_ok=True)
    with opened() as journal:
        current = journal.status.current
        if not mar.is_file():
            mar.write_text(f"archive {run.version}")
        record = Record(
            name="digits",
            version=run.version,
            mar=name,
            sha256=file_sha256(mar),
            deployed_at=now(),
            accuracy=0.9,
            test=splits["test"],
            dataset=splits["train"],
            verdict=verdict,
            **model,
        )
        if current and current.version == run.version:
            confirm(journal)
        else:
            switch(journal, record, Event.DEPLOYED, "it is good")
        retire_archives(mar, keep)


def _earlier(time: str, days: float) -> str:
    return (datetime.fromisoformat(time) - timedelta(days=days)).isoformat(timespec="seconds")
