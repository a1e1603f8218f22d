"""Unknown images: the distance above which an image gets no label, from its calibration to the report."""

import json
from typing import Any

import numpy as np
import pytest

from steps.analyse.analyse import Analysis, analyse
from steps.analyse.calibrate import unknown_distance
from steps.common.images.dataset import read_split
from tests.support.examples import judging

pytestmark = pytest.mark.usefixtures("plain_pictures")


def run(model: dict[str, Any], **change: Any) -> Analysis:
    return analyse(model["test"], model["network"], model["index"], model["validation"], **judging(**change))


def evaluation(model: dict[str, Any], analysis: Analysis) -> dict[str, Any]:
    """The facts of an analysis' evaluation, and the contents of `evaluation.json` and `golden.json`."""
    id = json.loads((analysis.report.parent / "verdict.json").read_text())["evaluation"]
    folder = model["volumes"] / "model/evaluation" / id
    files = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("evaluation", "golden")}
    return {"facts": json.loads((folder / "manifest.json").read_text())["facts"], **files}


def test_the_unknown_distance_is_the_quantile_of_the_distances() -> None:
    distances = np.random.default_rng(0).permutation(np.arange(1, 201) / 1000)
    assert unknown_distance(distances, 0.99) == 0.198
    assert unknown_distance(distances, 0.985) == 0.197
    assert unknown_distance(distances, 0.9849) == 0.197
    assert (distances <= 0.198).mean() >= 0.99 > (distances <= 0.197).mean()


@pytest.mark.parametrize(("images", "quantile"), [(0, 0.5), (99, 0.99), (199, 0.995)])
def test_too_few_validation_images_call_no_image_unknown(images: int, quantile: float) -> None:
    assert unknown_distance(np.zeros(images), quantile) is None
    assert unknown_distance(np.zeros(round(1 / (1 - quantile))), quantile) == 0


def test_an_infinite_distance_calls_no_image_unknown() -> None:
    assert unknown_distance(np.full(200, np.inf), 0.99) is None


def test_unknown_is_calibrated_on_validation_images_and_counted_on_test_images(model: dict[str, Any]) -> None:
    """Checked by an exhaustive search."""
    from steps.common.models.embedding import embed_images, load_network

    run(model)
    analysis = run(model, unknown_quantile=0.9, max_unknown=0.0)
    gallery, validation, test = (read_split(model[name]) for name in ("gallery", "validation", "test"))
    network = load_network(model["volumes"] / "model/network" / model["network"])
    known = embed_images(network, gallery.images, 100)
    of_validation = 1 - (embed_images(network, validation.images, 100) @ known.T).max(1)
    of_test = 1 - (embed_images(network, test.images, 100) @ known.T).max(1)
    found = evaluation(model, analysis)
    distance = found["facts"]["unknown_distance"]
    kept = (of_validation <= distance + 1e-6).mean()
    assert 0.9 <= kept < 0.9 + 1 / len(validation)
    assert found["facts"]["unknown"] == found["evaluation"]["unknown"] == pytest.approx((of_test > distance).mean())
    said = f"further than {distance:.3f} from the gallery: {found['evaluation']['unknown']:.2%} of test"
    assert analysis.verdict.unknown == said
    assert said in analysis.report.read_text()
    for item in found["golden"]:
        assert (item["label"] == "unknown") == (item["distance"] > distance)
    assert analysis.verdict.accuracy < run(model).verdict.accuracy, "unknown is a wrong answer"
    assert "more than gate.max_unknown (0.00%)" in analysis.verdict.reason


def test_golden_answers_include_unknown_images_and_none_that_rounding_decides(model: dict[str, Any]) -> None:
    from steps.analyse.evaluate import evaluate

    stored = (model["volumes"] / "model/network" / model["network"], model["volumes"] / "model/index" / model["index"])
    test, folder = read_split(model["test"]), model["volumes"]
    sizes = {"batch_size": 100, "neighbours": 5, "golden": 20, "mistakes": 0}
    evaluate(test, *stored, folder, unknown_distance=-1.0, **sizes)
    everything = json.loads((folder / "golden.json").read_text())
    assert {item["label"] for item in everything} == {"unknown"}
    evaluate(test, *stored, folder, unknown_distance=everything[3]["distance"], **sizes)
    others = json.loads((folder / "golden.json").read_text())
    assert [item["label"] == "unknown" for item in others] == sorted(item["label"] == "unknown" for item in others)
    assert {item["name"] for item in everything[:3]} < {item["name"] for item in others}
    assert everything[3]["name"] not in [item["name"] for item in others]
    assert len(others) == 20


def test_an_image_further_away_than_most_validation_images_is_unknown() -> None:
    """By made-up distances; `make bench` measures what a training makes of digits and of other images."""
    draw = np.random.default_rng(0)
    limit = unknown_distance(draw.uniform(0.0, 0.1, 400), 0.99)
    assert limit is not None
    assert 0.09 < limit < 0.1
    assert (draw.uniform(0.0, 0.1, 1000) > limit).mean() < 0.05
    assert (draw.uniform(0.2, 1.0, 1000) > limit).all()
