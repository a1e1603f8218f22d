"""Requests that take five seconds, through a killed worker, a switch and SIGTERM: each is answered, and right."""

import http.client
import json
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.model_archive import NAME, picture, png
from tests.support.serving_start import ONE, TWO, Start, Volumes, labels, write_version
from tests.support.slow_handler import make_slow

pytestmark = pytest.mark.slow

COUNT = 8  # one in each worker, then a batch of the others: all are answered in ten seconds


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    made = Volumes(tmp_path_factory.mktemp("volumes"))
    for version in (ONE, TWO):
        made.add(version, make_slow(write_version(made.root.with_name(f"files-{version}"), version)))
    made.point(ONE)
    return made


@pytest.fixture
def start(volumes: Volumes, tmp_path: Path) -> Iterator[Start]:
    volumes.point(ONE)
    with Start(volumes.root, tmp_path) as started:
        yield started.until_ready()


def ask(start: Start, quarter: int) -> str:
    """The version that answered right; otherwise what came instead."""
    try:
        status, answer, _ = start.predict(quarter % 4, {"X-Slow": "5"})
    except OSError as error:
        return repr(error)
    version = str((answer.get("model") or {}).get("version"))
    right = status == 200 and answer["label"] == labels(version)[quarter % 4]
    return version if right else f"{status} {json.dumps(answer)}"


def asked(start: Start, clients: ThreadPoolExecutor) -> list[Future[str]]:
    """COUNT requests that are being answered."""
    sent = [clients.submit(ask, start, quarter) for quarter in range(COUNT)]
    time.sleep(1.5)
    assert not any(each.done() for each in sent)
    return sent


def test_those_of_a_killed_worker_are_asked_again(start: Start) -> None:
    with ThreadPoolExecutor(COUNT) as clients:
        sent = asked(start, clients)
        start.workers()[0].kill()
        assert Counter(each.result() for each in sent) == {ONE: COUNT}
    answered: list[dict[str, Any]] = []

    def all_are_logged() -> bool:
        answered[:] = [line for line in start.logged() if line["logger"] == "http"]
        return len(answered) == COUNT

    start.until(all_are_logged, 10)
    again = [line["upstream_status"] for line in answered if line["upstream_status"] != "200"]
    print(f"asked again: {again}")
    assert again
    assert set(again) <= {"500 : 200", "507 : 200", "502 : 200"}


def test_those_of_the_old_version_are_answered_before_it_is_removed(start: Start, volumes: Volumes) -> None:
    with ThreadPoolExecutor(COUNT + 1) as clients:
        sent = asked(start, clients)
        volumes.point(TWO)
        start.until(lambda: f"switched from {ONE} to {TWO}" in start.output())
        late = clients.submit(ask, start, 0)
        assert Counter(each.result() for each in sent)[ONE] >= 2, "those that were in work"
        assert {each.result() for each in sent} <= {ONE, TWO}
        assert late.result() == TWO
    start.until(lambda: len(start.workers()) == 2, 30)  # those of the old version have ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_those_accepted_before_the_end_are_answered_and_then_connections_are_refused(start: Start, number: int) -> None:
    with ThreadPoolExecutor(COUNT) as clients:
        sent = asked(start, clients)
        began = time.monotonic()
        start.process.send_signal(number)
        time.sleep(4)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", start.port), timeout=5).close()
        assert Counter(each.result() for each in sent) == {ONE: COUNT}
        assert start.until_ended() == 0
        assert time.monotonic() - began < 35
    assert start.output().rstrip().endswith("stopped")


def test_clients_with_kept_connections_leave_in_peace(start: Start) -> None:
    """Each sends on one connection until it is told `Connection: close`, or has waited for two seconds."""

    def ask_on(pause: float) -> list[str]:
        connection = http.client.HTTPConnection("127.0.0.1", start.port, timeout=30)
        said = []
        try:
            while True:
                connection.request("POST", f"/predictions/{NAME}", png(picture(0)))
                response = connection.getresponse()
                response.read()
                said.append(f"{response.status} {response.getheader('Connection')}")
                if response.getheader("Connection") == "close":
                    return said
                time.sleep(pause)
        except (OSError, http.client.HTTPException) as error:
            return [*said, repr(error)]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as clients:
        sent = [clients.submit(ask_on, 0.01 * client) for client in range(8)]
        time.sleep(1)
        start.process.terminate()
        for each in sent:
            *before, last = each.result()
            assert len(before) > 3
            assert set(before) == {"200 keep-alive"}
            assert last == "200 close"
    assert start.until_ended() == 0
