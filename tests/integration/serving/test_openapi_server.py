"""serving/openapi.yaml against a real server: every described answer occurs, and no other."""

import base64
import copy
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from contract.paths import ROOT
from serving.log import Log
from serving.server import Server
from tests.support.model_archive import (
    MAX_INSTANCES,
    MAX_PIXELS,
    NAME,
    VERSION,
    add_thumbnails,
    archive,
    picture,
    png,
    write_model,
)

SPEC: dict[str, Any] = yaml.safe_load((ROOT / "serving/openapi.yaml").read_text())
PREDICTIONS = [path for path, item in SPEC["paths"].items() if "post" in item]
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance, not_a_server_error]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


IMAGE, GREY = png(picture(1)), png(np.full((8, 8), 100, np.uint8))
FORM = "multipart/form-data; boundary=x"
HEAD = b"--x\r\nContent-Disposition: form-data; name=data\r\nContent-Type: image/png; charset=none\r\n\r\n"
MALFORMED = HEAD + b"1\r\n--x--\r\n"
# With a worker that dies or is slow (test_serving_accepted.py), with keys or a rate (test_serving_options.py).
ELSEWHERE = {"500", "504", "401", "429"}
# Status, rule, and the arguments of requests.post.
EXAMPLES: list[tuple[int, str | None, dict[str, Any]]] = [
    (200, None, {"data": IMAGE}),
    (200, None, {"data": GREY, "headers": {"Content-Type": "image/png"}}),
    (200, None, {"data": IMAGE, "headers": {"Content-Type": "application/octet-stream"}}),
    (200, None, {"data": png(255 - picture(1)), "headers": {"X-Polarity": "dark-on-light"}}),
    (200, None, {"files": {"data": IMAGE}}),
    (200, None, {"files": {"data": ("7.png", IMAGE, "image/png")}, "data": {"polarity": "light-on-dark"}}),
    (200, None, {"json": {"instances": [{"b64": b64(IMAGE)}, {"b64": b64(GREY), "polarity": "dark-on-light"}]}}),
    (200, None, {"json": {"instances": [{"b64": b64(IMAGE)}] * MAX_INSTANCES, "polarity": "light-on-dark"}}),
    (400, "empty", {"data": b""}),
    (400, "not-an-image", {"data": b"seven"}),
    (400, "truncated", {"json": {"instances": [{"b64": b64(IMAGE[:60])}]}}),
    (400, "wrong-form", {"files": {"image": IMAGE}}),
    (400, "not-json", {"data": b"{", "headers": {"Content-Type": "application/json"}}),
    (400, "wrong-json", {"json": {"instances": []}}),
    (400, "not-base64", {"json": {"instances": [{"b64": "?"}]}}),
    (400, "wrong-polarity", {"data": IMAGE, "headers": {"X-Polarity": "dark"}}),
    (413, "too-many-pixels", {"data": png(picture(0, size=int(MAX_PIXELS**0.5) + 2))}),
    (413, "too-many-instances", {"json": {"instances": [{"b64": ""}] * (MAX_INSTANCES + 1)}}),
    (413, "too-large", {"data": bytes(11_000_000)}),
    (415, "wrong-type", {"data": IMAGE, "headers": {"Content-Type": "text/plain"}}),
    (415, "wrong-type", {"data": b"%zz=1", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    (415, "wrong-encoding", {"data": IMAGE, "headers": {"Content-Encoding": "gzip"}}),
    (400, "wrong-form", {"data": MALFORMED, "headers": {"Content-Type": FORM}}),
    (400, "bad-request", {"data": IMAGE, "headers": {"Host": "a b"}}),
    (431, "headers-too-large", {"data": IMAGE, "headers": {"X-Long": "a" * 9000}}),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a short queue."""
    folder = add_thumbnails(write_model(tmp_path_factory.mktemp("model")))
    with (folder / "model-config.yaml").open("a") as config:
        config.write("jobQueueSize: 2\n")
    mar = archive(folder, tmp_path_factory.mktemp("store") / "model.mar")
    with Server(mar, NAME, log=Log(tmp_path_factory.mktemp("log") / "torchserve.log")) as running:
        yield running.url.partition("/predictions/")[0]


def url(base: str, path: str, name: str = NAME, version: str = VERSION) -> str:
    return base + path.format(name=name, version=version)


@pytest.mark.slow
def test_every_status_and_body_described_occurs_and_no_other(base: str) -> None:
    described = schemathesis.openapi.from_dict(copy.deepcopy(SPEC))
    seen: dict[str, set[str]] = defaultdict(set)
    shapes: set[str] = set()

    def note(path: str, method: str, response: requests.Response) -> None:
        seen[path].add(str(response.status_code))
        described[path][method].validate_response(response)
        if response.headers["Content-Type"] == "application/json":
            shapes.update(shape(response.status_code, response.json()))

    for path in PREDICTIONS:
        for status, rule, arguments in EXAMPLES:
            response = requests.post(url(base, path), timeout=30, **arguments)
            found = response.json().get("error", {}).get("rule")
            assert (response.status_code, found) == (status, rule), response.text
            note(path, "POST", response)
        note(path, "POST", requests.post(url(base, path, name="another"), data=IMAGE, timeout=30))
        note(path, "POST", requests.get(url(base, path), timeout=30))
        for response in crowd(url(base, path)):
            note(path, "POST", response)
    for path in set(SPEC["paths"]) - set(PREDICTIONS):
        note(path, "GET", requests.get(url(base, path), timeout=30))
        note(path, "GET", requests.put(url(base, path), timeout=30))
    for path in set(SPEC["paths"]) - {*PREDICTIONS, "/ping", "/model.json"}:
        note(path, "GET", requests.get(url(base, path, name="another", version="another"), timeout=30))
    for path in SPEC["paths"]:
        elsewhere = ELSEWHERE | ({"503"} if path not in PREDICTIONS else set())  # see test_serving_supervised.py
        assert seen[path] == set(next(iter(each_operation(path)))["responses"]) - elsewhere
    rules = SPEC["components"]["schemas"]["error"]["properties"]["error"]["properties"]["rule"]["enum"]
    others = {"internal-error", "too-slow-to-decode", "too-slow", "wrong-key", "too-many", "unavailable", "not-ready"}
    assert shapes == {"prediction", "predictions", "unknown", "known", "fine", *rules} - others


@pytest.mark.slow
def test_a_query_is_dropped(base: str) -> None:
    response = requests.post(f"{url(base, PREDICTIONS[0])}?polarty=dark-on-light", data=IMAGE, timeout=30)
    assert response.status_code == 200


def each_operation(path: str) -> Iterator[dict[str, Any]]:
    return (value for key, value in SPEC["paths"][path].items() if key != "parameters")


def shape(status: int, answer: dict[str, Any]) -> Iterator[str]:
    """The described alternatives that an answer is."""
    if status == 200 and "label" not in answer and "predictions" not in answer:
        yield "fine"  # of /ping, and the page's files
    elif status == 200:
        yield "predictions" if "predictions" in answer else "prediction"
        yield "unknown" if answer.get("unknown") else "known"
    else:
        yield answer["error"]["rule"]


def crowd(url: str) -> list[requests.Response]:
    """Answers to more simultaneous requests than the queue holds, until one of them is 503."""
    many = {"instances": [{"b64": b64(png(picture(0, size=40)))}] * MAX_INSTANCES}
    for _ in range(20):
        with ThreadPoolExecutor(24) as clients:
            answers = list(clients.map(lambda _: requests.post(url, json=many, timeout=30), range(96)))
        if any(answer.status_code == 503 for answer in answers):
            break
    return answers


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("path", PREDICTIONS)
def test_generated_requests_are_answered_as_described(base: str, path: str, mode: GenerationMode) -> None:
    spec = copy.deepcopy(SPEC)
    spec["components"]["parameters"]["name"]["schema"] = {"const": NAME}
    operation = schemathesis.openapi.from_dict(spec)[path]["POST"]

    @settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered_as_described(case: schemathesis.Case) -> None:
        case.validate_response(case.call(base_url=base, timeout=30), checks=CHECKS)

    answered_as_described()
