"""The reference of drift: what it keeps of the answers to test images, and what of that travels in an archive."""

import json
from pathlib import Path

import numpy as np
import pytest

from contract.loop.reference import FILE, Reference
from steps.analyse.answers import Answers, Nearest
from steps.analyse.reference import MOST, write_reference
from steps.deploy.shape import read_reference


def answers(count: int, *, features: bool = True) -> Answers:
    distances = np.arange(count) / count
    distances[0] = np.inf
    labels = ["unknown", *("a" if row % 3 else "b" for row in range(1, count))]
    return Answers(labels, Nearest(distances, np.arange(count), distances / 3 if features else None), ["a", "b"])


def test_it_keeps_every_answer_and_both_distances(tmp_path: Path) -> None:
    write_reference(tmp_path, answers(7))
    found = read_reference(tmp_path)
    assert found.answers == {"unknown": 1, "a": 4, "b": 2}
    assert found.distances == (None, *(pytest.approx(row / 7, rel=1e-4) for row in range(1, 7)))
    assert found.features_distances == (None, *(pytest.approx(row / 21, rel=1e-4) for row in range(1, 7)))
    write_reference(tmp_path, answers(7, features=False))
    assert read_reference(tmp_path).features_distances is None


def test_of_many_images_it_keeps_the_distances_of_some_and_all_answers(tmp_path: Path) -> None:
    count = 3 * MOST
    write_reference(tmp_path, answers(count))
    found = read_reference(tmp_path)
    assert len(found.distances) == MOST
    assert sum(found.answers.values()) == count
    known = [each for each in found.distances if each is not None]
    assert np.mean(known) == pytest.approx(0.5, abs=0.02)
    assert (tmp_path / FILE).stat().st_size < 500_000
    before = (tmp_path / FILE).read_bytes()
    write_reference(tmp_path, answers(count))
    assert (tmp_path / FILE).read_bytes() == before


def test_what_is_not_of_its_form_does_not_travel(tmp_path: Path) -> None:
    write_reference(tmp_path, answers(7))
    content = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**content, "code": "x"}))
    assert "code" not in json.loads(read_reference(tmp_path).to_bytes())
    assert Reference.parsed(content) == read_reference(tmp_path)
