"""`python -m serving start --wait` before the first model is deployed: live, not ready, and it serves the first one."""

import json
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from serving.front.door import NO_MODEL
from tests.support.model_archive import NAME
from tests.support.serving_start import ONE, TWO, Start, Volumes

pytestmark = pytest.mark.slow


def ask(start: Start, path: str) -> tuple[int, Any]:
    """Status and JSON of a GET."""
    connection = HTTPConnection("127.0.0.1", start.port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def is_waiting(start: Start) -> bool:
    try:
        return bool(ask(start, "/ping")[1]["error"]["rule"] == "not-ready")
    except OSError:
        return False


def test_it_waits_for_the_first_model_and_then_serves_it(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path / "volumes")
    with Start(volumes.root, tmp_path, wait=True) as start:
        start.until(lambda: is_waiting(start), 10)
        for path in ("/ping", f"/v1/models/{NAME}", "/model.json"):
            status, answer = ask(start, path)
            rule = "unavailable" if path == "/model.json" else "not-ready"
            assert (status, answer["error"]) == (503, {"status": 503, "rule": rule, "message": NO_MODEL}), path
        status, answer, _ = start.predict()
        assert (status, answer["error"]["rule"], answer["error"]["message"]) == (503, "unavailable", NO_MODEL)
        assert ask(start, "/nothing")[0] == 404
        assert (start.probe("--live"), start.probe()) == (0, 1)
        assert "no model is deployed yet" in start.output()
        assert "serving_http_requests_total" in start.metrics()

        volumes.point(ONE)  # its archive is still being copied
        start.until(lambda: "waiting still: " in start.output(), 10)
        assert start.probe("--live") == 0
        volumes.add(ONE)
        volumes.point(ONE)
        began = time.monotonic()
        start.until_ready()
        waited = time.monotonic() - began
        assert start.serves(ONE)
        assert start.probe() == 0
        assert ask(start, "/v1/models/another")[0] == 404
        assert ask(start, "/model.json") == (200, {"name": NAME})
        volumes.add(TWO)
        volumes.point(TWO)
        start.until(lambda: start.serves(TWO))

    (tmp_path / "again").mkdir()
    began = time.monotonic()
    with Start(volumes.root, tmp_path / "again") as again:
        again.until_ready()
        assert waited < 2 * (time.monotonic() - began) + 2, "it serves as soon as one that is started then"


def test_it_stops_while_it_waits(tmp_path: Path) -> None:
    with Start(Volumes(tmp_path / "volumes").root, tmp_path, wait=True) as start:
        start.until(lambda: is_waiting(start), 10)
        start.process.terminate()
        assert start.until_ended(10) == 0
        assert start.output().endswith("stopped\n")
        assert list(start.temporary.iterdir()) == []


def test_without_the_option_it_says_what_to_do(tmp_path: Path) -> None:
    with Start(Volumes(tmp_path / "volumes").root, tmp_path) as start:
        assert start.until_ended() == 2
        assert "run make run first" in start.errors()
