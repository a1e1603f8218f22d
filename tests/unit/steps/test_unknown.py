"""Unknown images: the distances above which an image gets no label, from their calibration to the report."""

import json
from typing import Any

import numpy as np
import pytest

from steps.analyse.analyse import Analysis, analyse
from steps.analyse.answers import Limits, Nearest
from steps.analyse.calibrate import choose_limits, smallest
from steps.common.images.dataset import read_split
from steps.common.models.features_index import load
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


def nearest(distances: Any, features_distances: Any = None) -> Nearest:
    """What is found at these distances."""
    return Nearest(np.array(distances), np.zeros(len(distances), np.int64), features_distances)


def test_a_quantile_is_the_smallest_distance_that_this_share_keeps() -> None:
    distances = np.random.default_rng(0).permutation(np.arange(1, 201) / 1000)
    assert smallest(distances, 0.99) == 0.198
    assert smallest(distances, 0.985) == 0.197
    assert smallest(distances, 0.9849) == 0.197
    assert (distances <= 0.198).mean() >= 0.99 > (distances <= 0.197).mean()


@pytest.mark.parametrize("quantile", [0.9, 0.95, 0.985, 0.99])
def test_the_limits_together_let_the_share_through_and_no_more(quantile: float) -> None:
    draw = np.random.default_rng(0)
    found = nearest(draw.uniform(0, 1, 800), draw.uniform(0, 1, 800))
    known = found.known(choose_limits(found, quantile))
    assert quantile <= known.mean() < quantile + 1 / 800


def test_most_of_what_may_be_unknown_is_told_by_features() -> None:
    draw = np.random.default_rng(0)
    found = nearest(draw.uniform(0, 1, 800), draw.uniform(0, 1, 800))
    limits = choose_limits(found, 0.98)
    assert limits.unknown_distance == smallest(found.distances, 0.995)
    assert (found.distances > limits.unknown_distance).sum() == 4
    assert not nearest([0.1], np.array([0.999])).known(limits)[0]
    assert not nearest([0.999], np.array([0.1])).known(limits)[0]


def test_a_model_without_features_has_one_limit() -> None:
    found = nearest(np.arange(1, 201) / 1000)
    assert choose_limits(found, 0.99) == Limits(0.198, None)
    assert found.known(Limits(0.1, 0.0)).sum() == 100


@pytest.mark.parametrize(("images", "quantile"), [(0, 0.5), (99, 0.99), (199, 0.995)])
def test_too_few_validation_images_call_no_image_unknown(images: int, quantile: float) -> None:
    assert choose_limits(nearest(np.zeros(images), np.zeros(images)), quantile) == Limits(None, None)
    enough = np.zeros(round(1 / (1 - quantile)))
    assert choose_limits(nearest(enough, enough), quantile) == Limits(0, 0)


def test_an_infinite_distance_calls_no_image_unknown() -> None:
    assert choose_limits(nearest(np.full(200, np.inf), np.zeros(200)), 0.99) == Limits(None, None)
    assert choose_limits(nearest(np.full(200, np.inf)), 0.99) == Limits(None, None)


def test_no_number_and_no_neighbour_are_unknown() -> None:
    found = Nearest(np.array([0.1, np.nan, 0.1, np.inf]), np.array([0, 0, 0, -1]), np.array([0.1, 0.1, np.nan, 0.1]))
    assert found.known(Limits(0.2, 0.2)).tolist() == [True, False, False, False]
    assert found.known(Limits(None, None)).tolist() == [True, True, True, False]


@pytest.mark.slow
def test_unknown_is_calibrated_on_validation_images_and_counted_on_test_images(model: dict[str, Any]) -> None:
    """Checked by an exhaustive search."""
    from steps.common.models.embedding import embed_images, load_network

    run(model)
    analysis = run(model, unknown_quantile=0.9, max_unknown=0.0)
    gallery, validation, test = (read_split(model[name]) for name in ("gallery", "validation", "test"))
    network = load_network(model["volumes"] / "model/network" / model["network"])
    known = embed_images(network, gallery.images, 100).embeddings
    found = evaluation(model, analysis)
    facts = found["facts"]
    limits = facts["unknown_distance"], facts["unknown_features_distance"]
    features = load(model["volumes"] / "model/index" / model["index"] / "features.npz")

    def known_of(split: Any) -> Any:
        made = embed_images(network, split.images, 100)
        near = 1 - (made.embeddings @ known.T).max(1) <= limits[0] + 1e-6
        return near & (features.distances(made.features) <= limits[1] + 1e-6)

    assert 0.9 <= known_of(validation).mean() < 0.9 + 1 / len(validation)
    assert facts["unknown"] == found["evaluation"]["unknown"] == pytest.approx(1 - known_of(test).mean())
    beyond = f"further than {limits[0]:.3f} from the gallery, or than {limits[1]:.3f} by features"
    said = f"{beyond}: {found['evaluation']['unknown']:.2%} of test"
    assert analysis.verdict.unknown == said
    assert said in analysis.report.read_text()
    for item in found["golden"]:
        assert (item["label"] == "unknown") == (item["distance"] > limits[0] or item["features_distance"] > limits[1])
    assert analysis.verdict.accuracy < run(model).verdict.accuracy, "unknown is a wrong answer"
    assert "more than gate.max_unknown (0.00%)" in analysis.verdict.reason


def test_golden_answers_include_unknown_images_and_none_that_rounding_decides(model: dict[str, Any]) -> None:
    from steps.analyse.evaluate import evaluate

    stored = (model["volumes"] / "model/network" / model["network"], model["volumes"] / "model/index" / model["index"])
    test, folder = read_split(model["test"]), model["volumes"]
    sizes = {"batch_size": 100, "neighbours": 5, "golden": 20, "mistakes": 0}
    evaluate(test, *stored, folder, limits=Limits(-1.0, None), **sizes)
    everything = json.loads((folder / "golden.json").read_text())
    assert {item["label"] for item in everything} == {"unknown"}
    evaluate(test, *stored, folder, limits=Limits(everything[3]["distance"], None), **sizes)
    others = json.loads((folder / "golden.json").read_text())
    assert [item["label"] == "unknown" for item in others] == sorted(item["label"] == "unknown" for item in others)
    assert {item["name"] for item in everything[:3]} < {item["name"] for item in others}
    assert everything[3]["name"] not in [item["name"] for item in others]
    assert len(others) == 20
    evaluate(test, *stored, folder, limits=Limits(None, everything[3]["features_distance"]), **sizes)
    by_features = json.loads((folder / "golden.json").read_text())
    assert everything[3]["name"] not in [item["name"] for item in by_features]
    assert "unknown" in {item["label"] for item in by_features}


def test_an_image_further_away_than_most_validation_images_is_unknown() -> None:
    """By made-up distances; `make bench` measures what a training makes of digits and of other images."""
    draw = np.random.default_rng(0)
    limits = choose_limits(nearest(draw.uniform(0.0, 0.1, 400), draw.uniform(0.0, 0.1, 400)), 0.99)
    near, far = draw.uniform(0.0, 0.1, 1000), draw.uniform(0.2, 1.0, 1000)
    assert nearest(near, near).known(limits).mean() > 0.95
    assert not nearest(far, near).known(limits).any()
    assert not nearest(near, far).known(limits).any()
