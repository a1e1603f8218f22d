"""`python -m serving start` under load: after a change of the pointer every request is answered, by one version."""

import json
import re
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from contract.loop import drift
from contract.loop.collected import FOLDER
from serving.probe import probe
from tests.support.drifting import measured
from tests.support.exposed_metrics import SERVED
from tests.support.model_archive import NAME
from tests.support.serving_start import ONE, TWO, Start, Volumes, labels

VERSIONS = (ONE, TWO)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Volumes:
    made = Volumes(tmp_path_factory.mktemp("volumes"))
    for version in VERSIONS:
        made.add(version)
    made.point(ONE)
    return made


@pytest.fixture(scope="module")
def server(volumes: Volumes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with Start(volumes.root, tmp_path_factory.mktemp("server")) as started:
        yield started.until_ready()


def kind_of(server: Start, quarter: int) -> str:
    """The version if the whole answer is right and of that version; otherwise the answer or error."""
    try:
        status, answer, _ = server.predict(quarter)
    except OSError as error:
        return repr(error)
    version = str((answer.get("model") or {}).get("version"))
    right = status == 200 and version in VERSIONS and answer["label"] == labels(version)[quarter]
    right = right and {near["label"] for near in answer["neighbours"]} <= set(labels(version))
    return version if right else f"{status} {json.dumps(answer)}"


@pytest.mark.slow
def test_switching_there_and_back_under_load_loses_no_request(server: Start, volumes: Volumes) -> None:
    stop = Event()

    def ask_on(client: int) -> list[str]:
        answers: list[str] = []
        while not stop.is_set():
            answers.append(kind_of(server, (client + len(answers)) % 4))
        return answers

    def probe_on() -> list[int]:
        probes = []
        while not stop.is_set():
            probes.append(probe(Namespace(port=server.port, socket=None, live=False, timeout=8.0)))
        return probes

    with ThreadPoolExecutor(7) as pool:
        asked = [pool.submit(ask_on, client) for client in range(6)]
        probed = pool.submit(probe_on)
        try:
            for old, new in ((ONE, TWO), (TWO, ONE)):
                volumes.point(new)
                told = f"switched from {old} to {new}"
                server.until(lambda told=told: told in server.output())  # type: ignore[misc]
                info = re.findall(r"^serving_model_info(\{.*) 1\.0$", server.metrics(), re.MULTILINE)
                assert info == [f'{{name="{NAME}",version="{new}"}}']
                time.sleep(0.5)
        finally:
            stop.set()
        answers = [each.result() for each in asked]
        probes = probed.result()
    counted = sum(map(Counter, answers), Counter())
    print(f"{counted.total()} requests: {dict(counted)}; {len(probes)} probes")
    assert set(counted) == set(VERSIONS)
    assert min(counted.values()) > 100
    for each in answers:  # switched once there and once back, with no answer of the old version after one of the new
        assert [a for a, b in zip(each, [*each[1:], ""], strict=True) if a != b] == [ONE, TWO, ONE]
    assert len(probes) > 100
    assert set(probes) == {0}
    metrics = server.metrics()
    assert 'serving_switches_total{result="switched"} 2.0' in metrics
    assert 'serving_switches_total{result="failed"} 0.0' in metrics
    server.until(lambda: len(server.workers()) == 2, 20)  # the old version's workers have ended


@pytest.mark.slow
def test_all_metrics_are_exposed_and_batches_grow_with_the_load(server: Start, volumes: Volumes) -> None:
    server.predict()
    alone = batches(server)
    for _ in range(20):
        assert server.predict()[0] == 200
    after = batches(server)
    assert after["1.0"] - alone["1.0"] == 20, "a single client's requests are not delayed"
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda number: server.predict(number % 4)[0], range(800)))
    assert set(answers) == {200}
    loaded = batches(server)
    print({size: loaded[size] - after[size] for size in loaded})
    assert loaded["+Inf"] - loaded["2.0"] > after["+Inf"] - after["2.0"], "batches of more than two"
    assert server.predict(headers={"Content-Type": "text/plain"})[0] == 415, "the door refuses"
    assert server.predict(headers={"X-Polarity": "dark"})[0] == 400, "the worker refuses"
    assert server.predict(headers={"X-Polarity": "dark-on-light"})[1]["unknown_by"], "three quarters are bright"
    drift.write(volumes.root / FOLDER, measured(str(server.predict()[1]["model"]["version"])))
    server.until(lambda: "serving_http_refusals_total{" in server.metrics(), 10)
    metrics = server.metrics()
    for name, wanted in SERVED.items():
        if name in ("serving_repairs_total", "serving_shadow_figure"):  # nothing was broken, or shadowed
            continue
        found = re.search(rf"^{name}(?:\{{(.*)\}})? ", metrics, re.MULTILINE)
        assert found, name
        assert set(re.findall(r"(\w+)=\"", found[1] or "")) == wanted, name


@pytest.mark.slow
def test_probes_are_not_counted_as_predictions(server: Start) -> None:
    def counted() -> tuple[list[str], int, float]:
        metrics = server.metrics()
        names = ("requests_total", "predictions_total", "batch_size_count", "nearest_distance_count")
        found = [line for line in metrics.splitlines() if line.startswith(tuple(f"serving_{name}" for name in names))]
        [probes] = re.findall(r"^serving_probes_total (.*)$", metrics, re.MULTILINE)
        return found, sum(line.get("logger") == "requests" for line in server.logged()), float(probes)

    assert server.predict()[0] == 200
    time.sleep(0.2)
    before = counted()
    for _ in range(3):
        assert server.probe() == 0
    time.sleep(0.2)
    after = counted()
    assert after[:2] == before[:2]
    assert before[2] < after[2] <= before[2] + 3, "a probe may take the answer of the one before"
    assert server.predict()[0] == 200
    assert counted()[0] != after[0]


def batches(server: Start) -> dict[str, float]:
    """The histogram of batch sizes: cumulative counts by upper bound."""
    found = re.findall(r'^serving_batch_size_bucket\{le="(.*)"\} (.*)$', server.metrics(), re.MULTILINE)
    return {size: float(count) for size, count in found}


@pytest.mark.slow
@pytest.mark.parametrize("own", ["the-clients.own:1", "not one \u00e9", "x" * 129, ""])
def test_a_request_is_found_in_the_log_by_the_id_in_its_answer(server: Start, own: str) -> None:
    status, _, given = server.predict(headers={"X-Request-Id": own} if own else {})
    assert status == 200
    assert given
    assert (given == own) == (own == "the-clients.own:1")
    found: dict[str, Any] = {}

    def are_logged() -> bool:
        lines = server.logged()
        found["http"] = [line for line in lines if line.get("request_id") == given]
        found["requests"] = [line for line in lines if line.get("client_request_id") == given]
        return all(found.values())

    server.until(are_logged, 10)
    [at_the_door], [in_the_worker] = found["http"], found["requests"]
    assert (at_the_door["logger"], at_the_door["status"], at_the_door["upstream_status"]) == ("http", 200, "200")
    assert at_the_door["request"] == f"POST /predictions/{NAME} HTTP/1.1"
    assert float(at_the_door["seconds"]) + 0.002 > float(at_the_door["upstream_seconds"]) > 0, "both are rounded"
    assert (in_the_worker["logger"], in_the_worker["status"]) == ("requests", 200)
    assert in_the_worker["labels"] == [labels(in_the_worker["version"])[0]]


@pytest.mark.slow
def test_a_server_with_model_version_ignores_the_pointer(volumes: Volumes, tmp_path: Path) -> None:
    volumes.point(ONE)
    with Start(volumes.root, tmp_path, MODEL_VERSION=TWO) as pinned:
        pinned.until_ready()
        assert pinned.serves(TWO)
        for version in (TWO, ONE):
            volumes.point(version)
            time.sleep(1.5)
            assert pinned.serves(TWO)
        assert pinned.probe() == 0
        assert "switched" not in pinned.output()
    with Start(volumes.root, tmp_path, MODEL_VERSION="3333cccc") as pinned:
        assert pinned.until_ended() == 2
        assert pinned.errors().startswith("error: no version 3333cccc was ever deployed, ")
