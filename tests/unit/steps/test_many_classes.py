"""Thousands of classes: what analyse says, keeps and needs does not grow with the square of their number."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.events import Finished, parse
from contract.paths import ROOT
from steps.common.models import embedding
from tests.support import scene
from tests.support.examples import PARAMS, judging
from tests.support.pixels import Pixels

_ANALYSE = """
import json, sys
from steps.analyse.analyse import analyse
from steps.common.models import embedding
from tests.support.peak_memory import peak_mebibytes
from tests.support.pixels import Pixels
embedding.Network = Pixels
ids, sections = json.loads(sys.argv[1])
analyse(*ids, **sections)
print(peak_mebibytes())
"""
_SIZE = 10


def analysed(monkeypatch: pytest.MonkeyPatch, classes: int) -> tuple[list[str], int]:
    """What analyse said of this many classes, three test images each, in a process of its own; its peak in MiB."""
    draw = np.random.default_rng(0)
    labels = [f"class-{i:05}" for i in range(classes)]
    seen = draw.integers(0, 256, (classes, _SIZE, _SIZE), np.uint8)
    near = np.concatenate([seen ^ draw.integers(0, 96, seen.shape, np.uint8) for _ in range(3)])
    gallery = scene.split(seen, labels, size=_SIZE)
    test = scene.split(near, labels * 3, size=_SIZE)
    validation = scene.split(near[:200] ^ 1, labels[:200], size=_SIZE)
    monkeypatch.setattr(embedding, "Network", Pixels)
    model = scene.model(gallery, validation, gallery, np.ones(_SIZE**2, np.float32))
    judged = judging(**{**PARAMS["gate"], "baseline": 0.0, "worst_class_floor": 0.0, "min_class_images": 1})
    given = json.dumps([[test, model.network, model.index, validation], judged])
    command = [sys.executable, "-c", _ANALYSE, given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *lines, peak = done.stdout.splitlines()
    return lines, int(peak)


def files(volumes: Path, kind: str) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (volumes / "model" / kind).glob("[!.]*/*")}


@pytest.mark.slow
def test_of_thousands_of_classes_a_little_is_said(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = analysed(monkeypatch, 3_000)
    finished: Any = parse(lines[-1])
    assert isinstance(finished, Finished)
    assert finished.verdict
    assert finished.verdict.better
    assert 10 < len(finished.classes) <= 31
    assert sum(map(len, lines)) < 20_000
    assert len(finished.verdict.reason) < 2_000
    assert sum(files(volumes, "evaluation").values()) < 3_000_000
    assert sum(files(volumes, "verdict").values()) < 1_000_000
    page = next((volumes / "model/verdict").glob("[!.]*/report.html")).read_text()
    assert "The worst 50 of 3000 classes" in page


@pytest.mark.slow
def test_six_thousand_classes_fit_in_a_gibibyte(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, peak = analysed(monkeypatch, 6_000)
    print(f"{peak} MiB")
    assert peak < 1024
