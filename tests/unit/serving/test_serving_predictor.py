"""The predictor with a tiny real model: right answers, and an error of its own for each bad request."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from serving.model import deadline, payload
from serving.model.payload import Request
from serving.model.predictor import Answer, Predictor
from steps.common.images import decode
from tests.support.model_archive import (
    CLASSES,
    MAX_PIXELS,
    NAME,
    UNKNOWN_DISTANCE,
    VERSION,
    instances,
    picture,
    png,
    write_model,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor(folder, decode, payload, deadline)


def ask(predictor: Predictor, *bodies: Any) -> list[Any]:
    """The JSON answers to these bodies or requests."""
    requests = [body if isinstance(body, Request) else Request(body) for body in bodies]
    return [json.loads(answer.json) for answer in predictor.answer(requests)]


@pytest.mark.parametrize("quarter", range(4))
def test_the_label_is_that_of_the_nearest_neighbour(predictor: Predictor, quarter: int) -> None:
    [answer] = ask(predictor, png(picture(quarter, bright=160)))
    assert (answer["label"], answer["unknown"]) == (CLASSES[quarter], False)
    assert answer["model"] == {"name": NAME, "version": VERSION}
    found = {"label": CLASSES[quarter], "distance": 0.0, "similarity": 1.0, "index": 3 * quarter + 1}
    assert answer["neighbours"][0] == found
    distances = [neighbour["distance"] for neighbour in answer["neighbours"]]
    assert distances == sorted(distances)
    assert len(distances) == 3
    assert answer["distance"] == distances[0]
    assert answer["similarity"] == 1 - distances[0]


def test_distance_is_one_minus_the_cosine(predictor: Predictor) -> None:
    pixels = picture(0, bright=200)
    pixels[:4, 4:] = 90
    [answer] = ask(predictor, png(pixels))
    query, near = np.array([200, 90, 10, 10]), np.array([120, 10, 10, 10])
    cosine = query @ near / np.linalg.norm(query) / np.linalg.norm(near)
    assert answer["neighbours"][0]["index"] == 0
    assert answer["distance"] == pytest.approx(1 - cosine, abs=1e-5)
    assert answer["similarity"] == pytest.approx(cosine, abs=1e-5)


def test_an_image_far_from_the_gallery_is_unknown_and_has_neighbours(predictor: Predictor) -> None:
    grey, black = np.full((8, 8), 100, np.uint8), np.zeros((8, 8), np.uint8)
    for answer in ask(predictor, png(grey), png(black)):
        assert (answer["label"], answer["unknown"]) == ("unknown", True)
        assert answer["distance"] > UNKNOWN_DISTANCE
        assert [near["label"] in CLASSES for near in answer["neighbours"]] == [True] * 3


def changed(folder: Path, target: Path, **settings: Any) -> Predictor:
    """A predictor of these files, with some settings of its model.json changed."""
    target.mkdir(exist_ok=True)
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    model = json.loads((folder / "model.json").read_text())
    (target / "model.json").write_text(json.dumps(model | settings))
    return Predictor(target, decode, payload, deadline)


@pytest.mark.parametrize(
    ("limits", "by"),
    [
        ((0.3, 0.2), []),
        ((0.3, 0.03), ["features_distance"]),
        ((0.05, 0.2), ["distance"]),
        ((0.05, 0.03), ["distance", "features_distance"]),
        ((None, 0.03), ["features_distance"]),
        ((0.05, None), ["distance"]),
        ((None, None), []),
    ],
)
def test_the_answer_says_which_distance_made_it_unknown(
    folder: Path, tmp_path: Path, limits: tuple[float | None, float | None], by: list[str]
) -> None:
    names = ("unknown_distance", "unknown_features_distance")
    pixels = np.where(picture(0) > 100, 200, 60).astype(np.uint8)
    one = changed(folder, tmp_path, **dict(zip(names, limits, strict=True)))
    [answer] = ask(one, png(pixels))
    assert answer["unknown_by"] == by
    assert answer["unknown"] == bool(by)
    assert answer["label"] == ("unknown" if by else CLASSES[0])
    query, near = np.array([200, 60, 60, 60]), np.array([120, 10, 10, 10])
    cosine = np.sqrt(query) @ np.sqrt(near) / np.sqrt(query.sum() * near.sum())
    assert answer["features_distance"] == pytest.approx(1 - cosine, abs=1e-5)
    [result] = one.answer([Request(png(pixels))])
    assert result.predictions == [(answer["label"], answer["distance"], tuple(by))]


def test_features_without_length_are_unknown(folder: Path, tmp_path: Path) -> None:
    one = changed(folder, tmp_path, unknown_distance=None)
    [answer] = ask(one, png(np.zeros((8, 8), np.uint8)))
    assert (answer["label"], answer["unknown_by"]) == ("unknown", ["features_distance"])


def test_an_older_archive_without_features_is_judged_by_its_embedding_alone(tmp_path: Path) -> None:
    older = Predictor(write_model(tmp_path, with_features=False), decode, payload, deadline)
    known, grey = ask(older, png(picture(1)), png(np.full((8, 8), 100, np.uint8)))
    assert (known["label"], known["unknown_by"], known["features_distance"]) == (CLASSES[1], [], None)
    assert (grey["label"], grey["unknown_by"], grey["features_distance"]) == ("unknown", ["distance"], None)


def test_without_an_unknown_distance_every_image_has_a_label(folder: Path, tmp_path: Path) -> None:
    for change in ({"unknown_distance": None, "unknown_features_distance": None}, {}):
        model = json.loads((folder / "model.json").read_text())
        del model["unknown_distance"], model["unknown_features_distance"]
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        (tmp_path / "model.json").write_text(json.dumps({**model, **change}))
        [answer] = ask(Predictor(tmp_path, decode, payload, deadline), png(np.full((8, 8), 100, np.uint8)))
        assert not answer["unknown"]
        assert answer["label"] in CLASSES


BAD: list[tuple[Any, int, str]] = [
    (b"", 400, "empty"),
    (b"no image", 400, "not-an-image"),
    (png(picture(0))[:60], 400, "truncated"),
    (png(picture(0, size=102)), 413, "too-many-pixels"),
    (Request(b"text", "text/plain"), 415, "wrong-type"),
    (Request(b"{", "application/json"), 400, "not-json"),
    (instances(png(picture(0)), b"no image"), 400, "not-an-image"),
    (instances(*[png(picture(0))] * 6), 413, "too-many-instances"),
]


def test_a_bad_item_gets_its_own_error_and_the_others_their_answers(predictor: Predictor) -> None:
    bodies: list[Any] = []
    for number, (body, _, _) in enumerate(BAD):
        bodies += [png(picture(number % 4)), body]
    answers = ask(predictor, *bodies)
    assert [answer["label"] for answer in answers[::2]] == [CLASSES[number % 4] for number in range(len(BAD))]
    for answer, (_, status, rule) in zip(answers[1::2], BAD, strict=True):
        assert (answer["error"]["status"], answer["error"]["rule"]) == (status, rule)
        assert answer["error"]["message"].startswith(f"{rule}: ")


@pytest.fixture
def passes(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of embeddings in each pass, recorded at the search in the index."""
    sizes: list[int] = []
    index = predictor._index

    def search(embeddings: Any, count: int) -> Any:
        sizes.append(len(embeddings))
        return index.search(embeddings, count)

    monkeypatch.setattr(predictor, "_index", SimpleNamespace(search=search))
    return sizes


def test_a_batch_goes_through_the_network_once(predictor: Predictor, passes: list[int]) -> None:
    predictor.answer([Request(png(picture(0))), Request(b"bad"), instances(png(picture(1)), png(picture(2)))])
    predictor.answer([Request(b"bad")])
    predictor.answer([])
    assert passes == [3]


def test_a_thousand_images_are_predicted_in_several_passes(predictor: Predictor, passes: list[int]) -> None:
    answers = ask(predictor, *[instances(*(png(picture(i % 4)) for i in range(n, n + 5))) for n in range(200)])
    assert sum(passes) == 1000
    assert max(passes) <= 64
    got = [[each["label"] for each in answer["predictions"]] for answer in answers]
    assert got == [[CLASSES[i % 4] for i in range(n, n + 5)] for n in range(200)]


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("a defect"), ValueError("a defect")])
def test_what_is_no_fault_of_the_client_is_an_internal_error_of_its_request_and_logged(
    folder: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def pixels(image: Any, **size: int) -> Any:
        if image.size == (9, 9):
            raise error
        return decode.pixels(image, **size)

    broken: Any = SimpleNamespace(read_header=decode.read_header, pixels=pixels, BadImage=decode.BadImage)
    predictor = Predictor(folder, broken, payload, deadline)
    before, failed, bad, many = predictor.answer(
        [
            Request(png(picture(1))),
            Request(png(picture(1, size=9))),
            Request(b"bad"),
            instances(png(picture(0, size=9))),
        ]
    )
    assert [before.status, failed.status, bad.status, many.status] == [200, 500, 400, 500]
    assert json.loads(failed.json)["error"]["rule"] == failed.rule == many.rule == "internal-error"
    [record, _] = caplog.records
    assert record.exc_info[1] is error


def test_a_pass_that_fails_is_repeated_for_each_request_alone(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    index = predictor._index

    def search(embeddings: Any, count: int) -> Any:
        if (embeddings[:, 3] > 0.9).any():
            raise MemoryError
        return index.search(embeddings, count)

    monkeypatch.setattr(predictor, "_index", SimpleNamespace(search=search))
    requests = [Request(png(picture(1))), Request(png(picture(3))), Request(b"bad"), instances(png(picture(2)))]
    answers = predictor.answer(requests)
    assert [answer.status for answer in answers] == [200, 500, 400, 200]
    assert answers[1].rule == "internal-error"
    assert len(caplog.records) == 1


MEMORY = """
import json, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import deadline, decode, payload, predictor
ready = predictor.Predictor(Path(sys.argv[1]), decode, payload, deadline)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20), resource.RLIM_INFINITY))
data = [Path(path).read_bytes() for path in sys.argv[2:]]
print(json.dumps([answer.status for answer in ready.answer([payload.Request(each) for each in data])]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_without_memory_for_an_image_its_request_alone_gets_500(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    model = json.loads((folder / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**model, "max_pixels": 20_000_000}))
    (tmp_path / "large").write_bytes(png(np.zeros((4000, 4000), np.uint8)))
    (tmp_path / "small").write_bytes(png(picture(0)))
    words = [sys.executable, "-c", MEMORY, *(str(tmp_path / name) for name in (".", "small", "large", "small"))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[200, 500, 200]", done.stderr
    assert "MemoryError" in done.stderr


def test_instances_are_answered_as_predictions_in_their_order(predictor: Predictor) -> None:
    [one, many] = ask(predictor, png(picture(2)), instances(*(png(picture(quarter)) for quarter in (3, 2, 0))))
    assert [each["label"] for each in many["predictions"]] == [CLASSES[quarter] for quarter in (3, 2, 0)]
    assert many["predictions"][1] == one


def test_one_bad_instance_fails_its_request_and_is_named(predictor: Predictor) -> None:
    cut = png(picture(0))[:60]
    [answer, other] = ask(predictor, instances(png(picture(0)), png(picture(1)), cut), instances(png(picture(1))))
    assert answer["error"]["message"].startswith("truncated: instance 2: the file starts as PNG")
    assert other["predictions"][0]["label"] == CLASSES[1]


def test_the_limit_of_pixels_is_for_all_images_of_a_request(predictor: Predictor) -> None:
    half = png(picture(0, size=int((MAX_PIXELS / 2) ** 0.5)))
    [fits, exceeds] = ask(predictor, instances(half, half), instances(half, half, half))
    assert [each["label"] for each in fits["predictions"]] == [CLASSES[0]] * 2
    assert exceeds["error"]["status"] == 413
    assert exceeds["error"]["message"].startswith(
        f"too-many-pixels: instance 2: with it there are more than {MAX_PIXELS} pixels together"
    )


def test_an_image_of_the_other_polarity_is_inverted(predictor: Predictor) -> None:
    dark = png(255 - picture(1))
    other = {"polarity": "dark-on-light"}
    bright, stated, unstated, inverted, each = ask(
        predictor,
        png(picture(1)),
        Request(png(picture(1)), parameters={"polarity": "light-on-dark"}),
        dark,
        Request(dark, parameters=other),
        instances(dark, **other),
    )
    assert bright == stated == inverted == each["predictions"][0]
    assert unstated["neighbours"] != bright["neighbours"]


def test_an_answer_carries_the_values_for_the_metrics(predictor: Predictor) -> None:
    good, unknown, bad, many = predictor.answer(
        [
            Request(png(picture(1))),
            Request(png(np.full((8, 8), 100, np.uint8))),
            Request(b"bad"),
            instances(png(picture(0)), png(picture(1))),
        ]
    )
    assert (good.status, good.rule, good.predictions) == (200, None, [(CLASSES[1], 0.0, ())])
    assert [(label, by) for label, _, by in unknown.predictions] == [("unknown", ("distance", "features_distance"))]
    assert bad == Answer(400, bad.json, "not-an-image", ())
    assert [label for label, _, _ in many.predictions] == CLASSES[:2]


def test_neighbours_that_an_approximate_index_did_not_find_are_left_out(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    vectors = faiss.read_index(str(folder / "index.faiss")).reconstruct_n(0, 12)
    index = faiss.index_factory(4, "IVF5,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    faiss.extract_index_ivf(index).quantizer.reset()
    faiss.extract_index_ivf(index).quantizer.add(np.vstack([np.eye(4), -np.eye(4)[:1]]).astype(np.float32))
    index.add(vectors[:2])
    faiss.write_index(index, str(tmp_path / "index.faiss"))
    (tmp_path / "labels.json").write_text(json.dumps({"classes": CLASSES, "gallery": [0, 0]}))
    found, lost = ask(Predictor(tmp_path, decode, payload, deadline), png(picture(0)), png(picture(3)))
    assert [near["index"] for near in found["neighbours"]] == [1, 0]
    nothing = {"label": "unknown", "unknown": True, "distance": None, "similarity": None, "neighbours": []}
    nothing |= {"unknown_by": ["distance"], "features_distance": 0.0}
    assert lost == {**nothing, "model": found["model"]}


def test_all_images_of_a_class_share_the_text_of_its_label(predictor: Predictor) -> None:
    for texts in (predictor._labels, predictor._json_labels):
        assert len(texts) == 3 * len(CLASSES)
        assert len(set(map(id, texts))) == len(CLASSES)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is mapped")
def test_workers_share_the_memory_of_the_index(folder: Path, predictor: Predictor) -> None:
    assert str(folder / "index.faiss") in Path("/proc/self/maps").read_text()


def test_an_index_of_another_gallery_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "labels.json").write_text(json.dumps({"classes": CLASSES, "gallery": [0]}))
    with pytest.raises(ValueError, match="12 vectors in the index, 1 labels"):
        Predictor(tmp_path, decode, payload, deadline)
