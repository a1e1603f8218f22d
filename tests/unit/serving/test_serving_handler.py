"""TorchServe's entry point in the archive: each item of a batch gets its request, its status and its answer."""

import importlib
import json
import logging
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest
from ts.metrics.metric_cache_abstract import MetricCacheAbstract
from ts.protocol import otf_message_handler

from tests.support.model_archive import CLASSES, SIZE, instances, picture, png, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def handler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The handler, imported as TorchServe's worker does: from the unpacked archive, modules without packages."""
    flat = ("handler", "collected", "collector", "deadline", "decode", "payload", "predictor", "telemetry")
    flat += ("worker_loop",)
    threads, level = faiss.omp_get_max_threads(), logging.root.level
    # What the handler patches is put back.
    monkeypatch.setattr(otf_message_handler, "_retrieve_buffer", otf_message_handler._retrieve_buffer)
    monkeypatch.setattr(otf_message_handler, "_retrieve_inference_msg", otf_message_handler._retrieve_inference_msg)
    monkeypatch.setattr(MetricCacheAbstract, "add_time", MetricCacheAbstract.add_time)
    monkeypatch.syspath_prepend(folder)
    handler = importlib.import_module("handler")

    entry = handler.Handler()
    entry.initialize(SimpleNamespace(system_properties={"model_dir": str(folder)}))
    yield entry
    for name in flat:
        assert Path(sys.modules.pop(name).__file__ or "").parent == folder
    faiss.omp_set_num_threads(threads)
    logging.root.setLevel(level)


def handled(handler: Any, *items: tuple[dict[str, bytes], dict[str, str]]) -> list[tuple[int, str, Any]]:
    """Call the handler with items and their HTTP headers, as TorchServe does: status, phrase and JSON of each."""
    statuses: dict[int, tuple[int, str]] = {}
    types: dict[int, str] = {}

    def properties(number: int) -> dict[str, Any]:
        item, headers = items[number]
        return {**{name: {"content-type": ""} for name in item}, "explain": "False", **headers}

    context = SimpleNamespace(
        set_response_status=lambda code, phrase, number: statuses.update({number: (code, phrase)}),
        set_response_content_type=lambda number, kind: types.update({number: kind}),
        get_all_request_header=properties,
        get_request_id=str,
    )
    answers = handler.handle([item for item, _ in items], context)
    assert set(types.values()) == {"application/json"}
    return [(*statuses[number], json.loads(answer)) for number, answer in enumerate(answers)]


def test_the_handler_gives_each_item_its_status(handler: Any) -> None:
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    answers = handled(
        handler,
        ({"body": png(picture(1))}, {}),
        ({"body": png(picture(1, size=102))}, {"content-type": "image/png"}),
        ({"data": png(picture(1))}, form),
        ({"image": png(picture(1))}, form),
        ({}, form),
        ({"body": b"{}"}, {"CONTENT-TYPE": "Application/JSON; charset=utf-8"}),
        ({"7": b""}, {"Content-Type": "application/x-www-form-urlencoded"}),
        ({}, {}),
    )
    assert [(status, answer.get("error", {}).get("rule")) for status, _, answer in answers] == [
        (200, None),
        (413, "too-many-pixels"),
        (200, None),
        (400, "wrong-form"),
        (400, "wrong-form"),
        (400, "wrong-json"),
        (415, "wrong-type"),
        (400, "empty"),
    ]
    assert [phrase for _, phrase, _ in answers][:2] == ["OK", HTTPStatus(413).phrase]


@pytest.mark.parametrize("say", ["header", "field", "query", "json"])
def test_the_polarity_reaches_the_predictor_from(handler: Any, say: str) -> None:
    dark, value = png(255 - picture(2)), "dark-on-light"
    item, headers = {
        "header": ({"body": dark}, {"x-Polarity": value}),
        "field": ({"data": dark, "polarity": value.encode()}, {"Content-Type": "multipart/form-data; boundary=x"}),
        "query": ({"polarity": value.encode(), "body": dark}, {}),
        "json": ({"body": instances(dark, polarity=value).body}, {"content-type": "application/json"}),
    }[say]
    [(status, _, answer)] = handled(handler, (item, headers))
    assert status == 200
    assert answer.get("predictions", [answer])[0]["label"] == CLASSES[2]
    assert answer.get("predictions", [answer])[0]["distance"] < 0.01


def test_what_made_images_unknown_is_counted(handler: Any) -> None:
    grey = png(np.full((SIZE, SIZE), 100, np.uint8))
    handled(handler, ({"body": png(picture(1))}, {}), ({"body": grey}, {}), ({"body": grey}, {"x-probe": "1"}))
    [counted] = handler.telemetry._unknown.collect()
    found = {sample.labels["by"]: sample.value for sample in counted.samples if sample.name.endswith("_total")}
    assert found == {"distance": 1, "features_distance": 1}


def test_the_handler_uses_one_thread(handler: Any) -> None:
    assert handler.predictor._network.get_session_options().intra_op_num_threads == 1
    assert faiss.omp_get_max_threads() == 1
