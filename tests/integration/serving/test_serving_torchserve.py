"""A real TorchServe over a tiny real model: what it answers, and that nobody can do it harm."""

import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving.golden import GoldenError, read_golden
from serving.log import Log
from serving.torchserve.server import TorchServe, TorchServeError
from tests.support.model_archive import CLASSES, MAX_PIXELS, NAME, VERSION, archive, picture, png, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TorchServe]:
    """Started from a model store that it may only read."""
    store = tmp_path_factory.mktemp("store")
    mar = archive(folder, store / "model.mar")
    store.chmod(stat.S_IRUSR | stat.S_IXUSR)
    before = store.stat().st_mtime_ns
    with TorchServe(mar, NAME, log=Log(tmp_path_factory.mktemp("log") / "torchserve.log")) as running:
        yield running
    assert list(store.iterdir()) == [mar]
    assert store.stat().st_mtime_ns == before
    store.chmod(stat.S_IRWXU)


def processes(server: TorchServe) -> list[psutil.Process]:
    """Java, then its workers."""
    java = psutil.Process(server._java.pid)
    return [java, *java.children(recursive=True)]


def test_every_class_is_answered(server: TorchServe) -> None:
    for quarter, label in enumerate(CLASSES):
        status, answer = server.predict(png(picture(quarter), "JPEG" if quarter == 3 else "PNG"))
        assert (status, answer["label"]) == (200, label)
        assert answer["model"] == {"name": NAME, "version": VERSION}


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_gets_the_same_answer(server: TorchServe, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(png(picture(2)))
    curl = subprocess.run(["curl", "-sS", "-T", image, server.url], capture_output=True, text=True, check=True)
    assert json.loads(curl.stdout) == server.predict(image.read_bytes())[1]
    form = subprocess.run(["curl", "-sS", "-F", f"data=@{image}", server.url], capture_output=True, check=True)
    assert json.loads(form.stdout) == json.loads(curl.stdout)


def put(server: TorchServe, body: bytes, kind: str) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("PUT", f"/predictions/{NAME}", body=body, headers={"Content-Type": kind})
    response = connection.getresponse()
    assert response.getheader("content-type") == "application/json"
    return response.status, json.loads(response.read())


def test_bad_input_gets_its_own_4xx_and_the_worker_survives(server: TorchServe) -> None:
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
    assert server.predict(bytes(11_000_000)) == (413, {"message": "Request Entity Too Large"})
    read_golden(server.mar).check(server.url)
    assert [process.pid for process in processes(server)] == before


def test_bad_items_among_many_at_once_cost_the_others_nothing(server: TorchServe) -> None:
    bodies = [b"no image" if number % 3 == 0 else png(picture(number % 4)) for number in range(200)]
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(server.predict, bodies))
    for number, (status, answer) in enumerate(answers):
        got = (status, answer.get("label"))
        assert got == ((400, None) if number % 3 == 0 else (200, CLASSES[number % 4]))


def test_an_answer_of_another_version_or_label_or_distance_is_not_ready(server: TorchServe) -> None:
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


def test_only_loopback_is_listened_on_and_nothing_can_be_registered(server: TorchServe) -> None:
    listening = [each.laddr for each in processes(server)[0].net_connections() if each.status == psutil.CONN_LISTEN]
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert len(listening) == (3 if sys.platform == "linux" else 6)
    for address in listening:
        connection = HTTPConnection("127.0.0.1", address.port, timeout=5)
        try:
            connection.request("POST", "/models?url=http://127.0.0.1:1/x.mar")
            assert connection.getresponse().status in (404, 405)
        except (OSError, HTTPException):
            pass  # gRPC's ports do not speak HTTP 1


def test_the_worker_has_one_thread_and_no_environment_of_ours(server: TorchServe) -> None:
    worker = processes(server)[1].environ()
    assert worker["OMP_NUM_THREADS"] == "1"
    assert not {key for key in worker if key.startswith("PYTEST")}


@pytest.mark.slow
def test_a_model_that_does_not_load_is_never_ready(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "network.onnx").write_bytes(b"no network")
    mar = archive(broken, tmp_path / "model.mar")
    server = TorchServe(mar, NAME, log=Log(tmp_path / "log"))
    with (
        pytest.raises(TorchServeError, match=r"does not load.*\n(.*\n)*.*network\.onnx failed"),
        server,
    ):
        pytest.fail("it said that it was ready")
    assert server._java.poll() is not None
