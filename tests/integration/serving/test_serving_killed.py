"""Killed processes: a worker is replaced; without TorchServe or nginx the server ends; nothing is left."""

import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.support.serving_start import ONE, Start, Volumes, deployed, gone, labels


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    return deployed(tmp_path_factory.mktemp("volumes"))


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_its_batch_is_asked_again(one: Volumes, tmp_path: Path) -> None:
    with Start(one.root, tmp_path) as start, ThreadPoolExecutor(6) as clients:
        start.until_ready()
        before = start.workers()
        stop = Event()

        def ask_on(client: int) -> Counter[int | str]:
            answers: Counter[int | str] = Counter()
            while not stop.is_set():
                try:
                    status, answer, _ = start.predict(client % 4)
                except OSError as error:
                    answers[repr(error)] += 1
                else:
                    answers[status] += 1
                    assert status != 200 or answer["label"] == labels(ONE)[client % 4]
            return answers

        asked = [clients.submit(ask_on, client) for client in range(6)]
        try:
            time.sleep(0.5)
            before[0].kill()
            start.until(lambda: len({each.pid for each in start.workers()} - {each.pid for each in before}) == 1)
            time.sleep(5)
        finally:
            stop.set()
        answers = sum((each.result() for each in asked), Counter())
        print(f"a worker killed under load: {dict(answers)}")
        assert set(answers) == {200}
        assert answers[200] > 500
        assert start.serves(ONE)
        assert start.probe() == 0


@pytest.mark.slow
def test_a_server_whose_output_nobody_reads_answers_and_counts_what_is_lost(one: Volumes, tmp_path: Path) -> None:
    with Start(one.root, tmp_path, log=Path("-"), pipe=True) as start, ThreadPoolExecutor(8) as clients:
        start.until(lambda: start.probe("--live") == 0)
        start.until(lambda: start.probe() == 0)
        answers = Counter(clients.map(lambda number: start.predict(number % 4)[0], range(1000)))
        assert answers == {200: 1000}
        time.sleep(1)
        [lost] = re.findall(r"^serving_output_lines_dropped (.*)$", start.metrics(), re.MULTILINE)
        assert float(lost) > 500, "of two lines for each request, a pipe holds some hundred"
        assert start.serves(ONE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["java", "nginx"])
def test_a_killed_process_is_an_error_and_leaves_nothing(name: str, one: Volumes, tmp_path: Path) -> None:
    with Start(one.root, tmp_path) as start:
        children = start.until_ready().children()
        next(each for each in children if each.name() == name).kill()  # of nginx the master, which was there first
        assert start.until_ended(20) == 1
        what = {"java": "TorchServe", "nginx": "nginx"}[name]
        assert start.errors().startswith(f"error: {what} ended by itself with status -9; the end of its log, ")
        assert gone(children, within=2)
        assert start.probe("--live") == 1
        assert list(start.temporary.iterdir()) == []
