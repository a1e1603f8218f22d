"""A real server: a request that takes too much time ends its worker; repeated by the door, itself alone."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serving.log import Log
from serving.server import Server
from tests.support.model_archive import CLASSES, NAME, archive, picture, png, write_model
from tests.support.torchserve_process import processes

pytestmark = pytest.mark.slow

LATE, BROKEN = png(picture(0, size=11)), png(picture(0, size=15))
DEFECTS = """
_right = pixels


def pixels(image, **size):
    while image.width == 11:
        pass
    if image.width == 15:
        raise ZeroDivisionError("a defect of ours")
    return _right(image, **size)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose decoder never ends for one size of image, and has a defect for another."""
    root = tmp_path_factory.mktemp("served")
    folder = write_model(root / "model")
    with (folder / "decode.py").open("a") as file:
        file.write(DEFECTS)
    late = (folder / "deadline.py").read_text()
    (folder / "deadline.py").write_text(late.replace("CPU_SECONDS = 5.0", "CPU_SECONDS = 0.5"))
    with Server(archive(folder, root / "model.mar"), NAME, log=Log(root / "log")) as running:
        yield running


def ask(server: Server, image: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a prediction."""
    request = urllib.request.Request(server.url, image, {"Content-Type": "image/png", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def logged(server: Server) -> str:
    assert server.log.path is not None
    return Path(server.log.path).read_text()


def test_the_guilty_request_alone_is_refused(server: Server) -> None:
    images = [LATE if number == 5 else png(picture(number % 4)) for number in range(16)]
    with ThreadPoolExecutor(len(images)) as clients:
        answers = list(clients.map(lambda image: ask(server, image), images))
    assert [status for status, _ in answers] == [400 if number == 5 else 200 for number in range(16)]
    for number, (_, answer) in enumerate(answers):
        if number == 5:
            assert answer["error"]["rule"] == "too-slow-to-decode"
        else:
            assert answer["label"] == CLASSES[number % 4]
    assert 'decode.py\\", line' in logged(server), "the stack of the late worker, in JSON"


def test_a_worker_past_its_deadline_is_replaced_and_no_client_can_say_that_its_request_is_repeated(
    server: Server,
) -> None:
    before = {process.pid for process in processes(server)}
    status, answer = ask(server, LATE, **{"X-Repeated": "1"})
    assert (status, answer["error"]["rule"]) == (400, "too-slow-to-decode")
    assert before - {process.pid for process in processes(server)}, "a worker died with the first try"
    for number in range(8):
        assert ask(server, png(picture(number % 4)))[1]["label"] == CLASSES[number % 4]


def test_a_defect_is_500_for_its_request_alone_with_its_trace_in_the_log(server: Server) -> None:
    images = [BROKEN if number == 2 else png(picture(number % 4)) for number in range(8)]
    with ThreadPoolExecutor(len(images)) as clients:
        answers = list(clients.map(lambda image: ask(server, image), images))
    assert [status for status, _ in answers] == [500 if number == 2 else 200 for number in range(8)]
    assert answers[2][1]["error"]["rule"] == "internal-error"
    assert "ZeroDivisionError: a defect of ours" in logged(server)
    assert "internal-error: cannot read a request" in logged(server)
