"""A real server with a tiny real model: its answers to good and bad requests."""

import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from serving.golden import GoldenError, read_golden
from serving.log import Log
from serving.server import Server
from serving.torchserve.server import WORKERS, TorchServe
from steps.deploy.proof import prove_archive
from tests.support.model_archive import CLASSES, MAX_PIXELS, NAME, VERSION, archive, picture, png, write_model
from tests.support.torchserve_process import processes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started from a read-only model store."""
    store = tmp_path_factory.mktemp("store")
    mar = archive(folder, store / "model.mar")
    store.chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = store.stat().st_mtime_ns
    with Server(mar, NAME, log=Log(tmp_path_factory.mktemp("log") / "torchserve.log")) as running:
        yield running
    assert list(store.iterdir()) == [mar]
    assert store.stat().st_mtime_ns == before
    store.chmod(stat.S_IRWXU)


def test_a_proof_takes_one_worker(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def check(proof: TorchServe) -> list[dict[str, Any]]:
        seen.append(proof.workers())
        return asked(proof)

    asked = TorchServe.check
    monkeypatch.setattr(TorchServe, "check", check)
    proven = prove_archive(server.torchserve.mar, NAME)
    assert [each["expected"] == each["answer"]["label"] for each in proven] == [True] * len(proven) != []
    assert (seen, server.torchserve.workers()) == ([(1, 1)], (WORKERS, WORKERS))


def test_every_class_is_answered(server: Server) -> None:
    for quarter, label in enumerate(CLASSES):
        status, answer = server.predict(png(picture(quarter), "JPEG" if quarter == 3 else "PNG"))
        assert (status, answer["label"]) == (200, label)
        assert answer["model"] == {"name": NAME, "version": VERSION}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_the_same_answer(server: Server, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(png(picture(2)))
    curl = subprocess.run(["curl", "-sS", "-T", image, server.url], capture_output=True, text=True, check=True)
    assert json.loads(curl.stdout) == server.predict(image.read_bytes())[1]
    form = subprocess.run(["curl", "-sS", "-F", f"data=@{image}", server.url], capture_output=True, check=True)
    assert json.loads(form.stdout) == json.loads(curl.stdout)


def put(server: Server, body: bytes, kind: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("PUT", f"/predictions/{NAME}", body=body, headers={"Content-Type": kind})
    response = connection.getresponse()
    assert response.getheader("content-type") == "application/json"
    return response.status, json.loads(response.read())


def test_bad_input_gets_4xx_and_the_worker_survives(server: Server) -> None:
    before = [process.pid for process in processes(server)]
    side = int(MAX_PIXELS**0.5) + 1
    cases = [
        (b"", "image/png", 400, "empty"),
        (b"no image", "image/png", 400, "not-an-image"),
        (png(picture(0))[:60], "image/png", 400, "truncated"),
        (png(picture(0, size=side)), "image/png", 413, "too-many-pixels"),
        (b'{"instances": [[1]]}', "application/json", 400, "wrong-json"),
        (b"null", "application/json", 400, "wrong-json"),
        (b"[" * 5000, "application/json", 413, "too-many-instances"),
        (b"seven", "text/plain", 415, "wrong-type"),
        (png(picture(0)), "application/x-www-form-urlencoded", 415, "wrong-type"),
    ]
    for body, kind, status, rule in cases:
        got, answer = put(server, body, kind)
        assert (got, answer["error"]["status"], answer["error"]["rule"]) == (status, status, rule), answer
    status, answer = server.predict(bytes(11_000_000))
    assert (status, answer["error"]["rule"]) == (413, "too-large")
    read_golden(server.mar).check(server.url)
    assert [process.pid for process in processes(server)] == before


def test_bad_items_in_a_batch_do_not_fail_the_others(server: Server) -> None:
    bodies = [b"no image" if number % 3 == 0 else png(picture(number % 4)) for number in range(200)]
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(server.predict, bodies))
    for number, (status, answer) in enumerate(answers):
        got = (status, answer.get("label"))
        assert got == ((400, None) if number % 3 == 0 else (200, CLASSES[number % 4]))


def test_a_wrong_version_label_or_distance_is_not_ready(server: Server) -> None:
    golden = read_golden(server.mar)
    assert golden.is_answered(server.url)
    [item, *_] = golden.items
    for wrong in (
        replace(golden, version="2"),
        replace(golden, items=(replace(item, label=CLASSES[1]),)),
        replace(golden, items=(replace(item, distance=0.01),)),
    ):
        with pytest.raises(GoldenError, match=rf"it answers .*{CLASSES[0]}.* where version {wrong.version} found"):
            wrong.is_answered(server.url)


def test_the_worker_has_one_thread_and_does_not_inherit_the_environment(server: Server) -> None:
    worker = processes(server)[1].environ()
    assert worker["OMP_NUM_THREADS"] == "1"
    assert not {key for key in worker if key.startswith("PYTEST")}
