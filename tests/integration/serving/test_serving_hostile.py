"""Hostile requests to a real server: they get 4xx, and other clients are not disturbed."""

import os
import re
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event

import pytest
import yaml

from contract.paths import ROOT
from serving.server import Server
from tests.support.attack import LIMIT, PATH, Attack, http
from tests.support.hostile_images import good_but_odd
from tests.support.hostile_requests import KINDS, attacks
from tests.support.model_archive import CLASSES, NAME, VERSION, picture, png
from tests.support.torchserve_process import processes

pytestmark = pytest.mark.slow

EACH = 90
ATTACKERS, CLIENTS = 8, 3
LARGEST, CROWD = 100, 400  # simultaneous requests of the largest size
MEBIBYTE = 1 << 20
DOCUMENTED = {
    int(status)
    for item in yaml.safe_load((ROOT / "serving/openapi.yaml").read_text())["paths"].values()
    for operation in ("post", "get")
    for status in item.get(operation, {}).get("responses", ())
}
MODEL = {"name": NAME, "version": VERSION}


def status_of(port: int, attack: Attack) -> int | None:
    """Send an attack: the status answered, None if the connection is closed without one; TimeoutError after 10 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        with suppress(OSError):  # the server may close early; its answer can still be read
            for number, piece in enumerate(attack.pieces):
                time.sleep(attack.pause if number else 0)
                connection.sendall(piece)
            if attack.silent:  # the server may be waiting for more
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while not complete(answer) and (piece := connection.recv(1 << 16)):
                answer += piece
    if answer.startswith(b'{"error": {"status": 400, "rule": "bad-request"'):
        return 400  # to a request without a version, as of HTTP/0.9, whose answers have no header
    version, _, rest = answer.partition(b" ")
    assert not answer or version.startswith(b"HTTP/1."), answer[:100]
    return int(rest[:3]) if answer else None


def complete(answer: bytes) -> bool:
    """Whether the whole answer has been read; some attacks do not ask for `Connection: close`."""
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"^content-length: (\d+)", head, re.IGNORECASE | re.MULTILINE)
    return bool(end) and length is not None and len(body) >= int(length[1])


def assault(server: Server, seed: int, each: int) -> tuple[Counter[tuple[str, int | None]], list[str]]:
    """Send all attacks: how often each kind got each status, and the wrong answers."""
    wrong = []

    def attack(one: Attack) -> tuple[str, int | None]:
        try:
            status = status_of(server.port, one)
        except TimeoutError:
            status = -1
        fits = one.silent if status is None else status in (one.statuses or range(400, 500))
        if not fits:
            wrong.append(f"{one.kind}: {status} for {b''.join(one.pieces)[:240]!r}")
        return one.kind, status

    with ThreadPoolExecutor(ATTACKERS) as attackers:
        return Counter(attackers.map(attack, attacks(seed, each))), wrong


def test_hostile_requests_get_4xx_and_disturb_no_client(server: Server) -> None:
    odd = list(good_but_odd().values())
    images = [(png(picture(number % 4)), CLASSES[number % 4]) for number in range(4)] + odd
    stop = Event()

    def ask_on(client: int) -> Counter[tuple[int, bool]]:
        answers: Counter[tuple[int, bool]] = Counter()
        while not stop.is_set():
            image, label = images[(client + answers.total()) % len(images)]
            status, answer = server.predict(image)
            answers[status, (answer.get("label"), answer.get("model")) == (label, MODEL)] += 1
        return answers

    assault(server, seed=1, each=EACH // 3)  # warm-up, before the memory is measured
    before = processes(server)
    memory = [process.memory_info().rss for process in before]
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = [clients.submit(ask_on, client) for client in range(CLIENTS)]
        try:
            found, wrong = assault(server, seed=2, each=EACH)
        finally:
            stop.set()
        valid = sum((each.result() for each in asked), Counter())
    grown = [process.memory_info().rss - was for process, was in zip(before, memory, strict=True)]

    print(f"{found.total()} malformed: {dict(sorted(found.items(), key=str))}")
    print(f"{valid.total()} valid: {dict(valid)}; grown by {[round(each / MEBIBYTE) for each in grown]} MiB")
    assert not wrong, "\n".join(wrong)
    assert found.total() >= 1000
    assert {kind for kind, _ in found} == set(KINDS)
    assert len(KINDS) == 20
    assert {status for _, status in found} - {None} <= DOCUMENTED
    assert set(valid) == {(200, True)}
    assert valid.total() >= 100
    assert [process.pid for process in processes(server)] == [process.pid for process in before]
    assert grown[0] < 96 * MEBIBYTE, "Java's heap may grow up to its limit in config.properties"
    assert max(grown[1:]) < 48 * MEBIBYTE


@pytest.mark.parametrize("name", good_but_odd())
def test_unusual_images_are_predicted(server: Server, name: str) -> None:
    image, label = good_but_odd()[name]
    status, answer = server.predict(image)
    assert (status, answer["label"]) == (200, label), answer


def test_clients_that_send_single_bytes_delay_no_other_client(server: Server) -> None:
    request = http(png(picture(3)), line=f"PUT {PATH} HTTP/1.1")
    pieces = [request[i : i + 1] for i in range(len(request))]
    slow = Attack("slow", pieces, pause=0.01)
    with ThreadPoolExecutor(20) as clients:
        waiting = [clients.submit(status_of, server.port, slow) for _ in range(20)]
        asked = 0
        while not all(each.done() for each in waiting):
            began = time.monotonic()
            assert server.predict(png(picture(0)))[0] == 200
            assert time.monotonic() - began < 2
            asked += 1
    assert [each.result() for each in waiting] == [200] * 20
    assert asked >= 20


def test_many_of_the_largest_requests_at_once_are_answered(server: Server) -> None:
    before = [process.pid for process in processes(server)]
    body = os.urandom(LIMIT)

    def ask(number: int) -> int:
        return server.predict(body if number % 10 else png(picture(0)))[0]

    with ThreadPoolExecutor(LARGEST) as clients:
        answers = list(clients.map(ask, range(LARGEST)))
    assert answers == [400 if number % 10 else 200 for number in range(LARGEST)]
    assert [process.pid for process in processes(server)] == before


def test_four_hundred_of_the_largest_requests_at_once_are_answered_or_refused_and_leave_nothing(server: Server) -> None:
    def spooled() -> list[Path]:
        return [path for path in (server.door.spool / "body").rglob("*") if path.is_file()]

    before = [process.pid for process in processes(server)]
    body = os.urandom(LIMIT)
    with ThreadPoolExecutor(CROWD) as clients:
        answers = Counter(clients.map(lambda _: server.predict(body)[0], range(CROWD)))
    print(f"{CROWD} clients with {LIMIT} bytes each: {dict(answers)}")
    assert set(answers) <= {400, 503, 504}
    assert answers[400] > 100
    time.sleep(5)
    assert server.predict(png(picture(0)))[0] == 200
    assert server.is_ready()
    assert [process.pid for process in processes(server)] == before
    assert spooled() == []
