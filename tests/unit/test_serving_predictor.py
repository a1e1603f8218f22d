"""The predictor over a tiny real model, and TorchServe's entry into it: right answers, and errors of their own."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest
import torch

from serving.predictor import Predictor
from steps.common.images import decode
from tests.model_archive import CLASSES, NAME, VERSION, picture, png, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor(folder, decode)


@pytest.mark.parametrize("quarter", range(4))
def test_the_label_is_that_of_the_nearest_neighbour(predictor: Predictor, quarter: int) -> None:
    [answer] = predictor.answer([png(picture(quarter, bright=160))])
    assert answer["label"] == CLASSES[quarter]
    assert answer["model"] == {"name": NAME, "version": VERSION}
    assert answer["neighbours"][0] == {"label": CLASSES[quarter], "distance": 0.0, "index": 3 * quarter + 1}
    distances = [neighbour["distance"] for neighbour in answer["neighbours"]]
    assert distances == sorted(distances)
    assert len(distances) == 3
    assert answer["distance"] == distances[0]


def test_distance_is_one_minus_the_cosine(predictor: Predictor) -> None:
    pixels = picture(0, bright=200)
    pixels[:4, 4:] = 90
    [answer] = predictor.answer([png(pixels)])
    query, near = np.array([200, 90, 10, 10]), np.array([120, 10, 10, 10])
    cosine = query @ near / np.linalg.norm(query) / np.linalg.norm(near)
    assert answer["neighbours"][0]["index"] == 0
    assert answer["distance"] == pytest.approx(1 - cosine, abs=1e-5)


BAD: list[tuple[Any, int, str]] = [
    (b"", 400, "empty"),
    (b"no image", 400, "not-an-image"),
    (png(picture(0))[:60], 400, "truncated"),
    (png(picture(0, size=102)), 413, "too-many-pixels"),
    ({"instances": [1]}, 415, "wrong-type"),
    ([1, 2], 415, "wrong-type"),
    ("text", 415, "wrong-type"),
    (None, 415, "wrong-type"),
    (7.5, 415, "wrong-type"),
]


def test_bad_items_get_errors_of_their_own_and_the_others_their_answers(predictor: Predictor) -> None:
    bodies: list[Any] = []
    for number, (body, _, _) in enumerate(BAD):
        bodies += [png(picture(number % 4)), body]
    answers = predictor.answer(bodies)
    assert [answer["label"] for answer in answers[::2]] == [CLASSES[number % 4] for number in range(len(BAD))]
    for answer, (_, status, rule) in zip(answers[1::2], BAD, strict=True):
        assert (answer["error"]["status"], answer["error"]["rule"]) == (status, rule)
        assert answer["error"]["message"].startswith(f"{rule}: ")


def test_a_batch_goes_through_the_network_once(predictor: Predictor) -> None:
    sizes: list[int] = []
    network = predictor._network
    with network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0]))):
        predictor.answer([png(picture(0)), b"bad", bytearray(png(picture(1))), memoryview(png(picture(2)))])
        predictor.answer([b"bad"])
        predictor.answer([])
    assert sizes == [3]


def test_whatever_the_decoder_raises_is_that_items_error(folder: Path) -> None:
    def break_down(*_: object, **__: object) -> Any:
        raise MemoryError("too large")

    [answer] = Predictor(folder, break_down).answer([b"any"])
    assert answer["error"]["status"] == 400


def test_what_an_approximate_index_does_not_find_is_left_out(folder: Path, tmp_path: Path) -> None:
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
    found, lost = Predictor(tmp_path, decode).answer([png(picture(0)), png(picture(3))])
    assert [near["index"] for near in found["neighbours"]] == [1, 0]
    assert lost["error"]["rule"] == "no-neighbour"


def test_an_index_of_another_gallery_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "labels.json").write_text(json.dumps({"classes": CLASSES, "gallery": [0]}))
    with pytest.raises(ValueError, match="12 vectors in the index, 1 labels"):
        Predictor(tmp_path, decode)


@pytest.fixture
def handler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """TorchServe's handler, imported as its worker does: by flat names, from the unpacked archive."""
    flat = ("handler", "images", "predictor")
    threads = torch.get_num_threads(), faiss.omp_get_max_threads()
    monkeypatch.syspath_prepend(folder)
    handler = importlib.import_module("handler")

    entry = handler.Handler()
    entry.initialize(SimpleNamespace(system_properties={"model_dir": str(folder)}))
    yield entry
    for name in flat:
        assert Path(sys.modules.pop(name).__file__ or "").parent == folder
    torch.set_num_threads(threads[0])
    faiss.omp_set_num_threads(threads[1])


def test_the_handler_gives_each_item_its_status(handler: Any) -> None:
    statuses: dict[int, tuple[int, str]] = {}
    types: dict[int, str] = {}
    context = SimpleNamespace(
        set_response_status=lambda code, phrase, number: statuses.update({number: (code, phrase)}),
        set_response_content_type=lambda number, kind: types.update({number: kind}),
    )
    image, large = png(picture(1)), png(picture(1, size=102))
    data = [{"body": image}, {"body": large}, {"field": image}, {"body": {}}, {}, {"q": b"1", "body": image}]
    answers = handler.handle(data, context)
    assert [answer.get("label") for answer in answers] == [CLASSES[1], None, CLASSES[1], None, None, CLASSES[1]]
    unsupported = (415, "Unsupported Media Type")
    expected = [(200, "OK"), (413, "Request Entity Too Large"), (200, "OK"), unsupported, unsupported, (200, "OK")]
    assert [statuses[number] for number in range(6)] == expected
    assert set(types.values()) == {"application/json"}


def test_the_handler_uses_one_thread(handler: Any) -> None:
    assert torch.get_num_threads() == 1
    assert faiss.omp_get_max_threads() == 1
