"""`python -m serving start` with a version that is shadowed: copies of the requests judge it before it answers any."""

import json
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.model_archive import NAME
from tests.support.serving_start import ONE, TWO, Start, Volumes
from tests.support.shadowing import EQUAL, FAILING, LIMITS, SLOW, add_version, audit, clients, pointer

pytestmark = pytest.mark.slow


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    made = Volumes(tmp_path / "volumes")
    for version in (ONE, TWO):
        made.add(version)
    for version in (EQUAL, SLOW, FAILING):
        add_version(made, version)
    made.point(ONE)
    return made


def configuration(server: Start) -> str:
    [path] = server.temporary.glob("door-*/nginx.conf")
    return path.read_text()


def state(server: Start) -> dict[str, str]:
    with urlopen(f"http://127.0.0.1:{server.port}/v1/models/{NAME}") as response:
        found: dict[str, str] = json.load(response).get("shadow") or {}
    return found


def test_an_equal_version_answers_after_its_time_and_no_client_notices(volumes: Volumes, tmp_path: Path) -> None:
    with Start(volumes.root, tmp_path) as server:
        server.until_ready()
        assert "mirror" not in configuration(server).replace("mirror.conf", "")
        with clients(server) as asked:
            time.sleep(1)
            volumes.point(EQUAL, shadow=LIMITS)
            server.until(
                lambda: f"{EQUAL} gets copies of 100% of the requests for 4 s, {ONE} answers" in server.output()
            )
            assert state(server)["state"] == "shadowed"
            assert "mirror /_copy;" in configuration(server)
            server.until(lambda: f"switched from {ONE} to {EQUAL} after it was shadowed for 4 s" in server.output())
            time.sleep(0.5)
        print(server.output())
        assert {status for status, *_ in asked.answers} == {200}
        assert {version for _, version, _ in asked.answers} == {ONE, EQUAL}
        metrics = server.metrics()
        assert 'serving_shadowed_total{result="passed"} 1.0' in metrics
        assert f'serving_shadow_figure{{figure="equal",version="{EQUAL}"}} 1.0' in metrics
        assert f'serving_shadow_figure{{figure="errors",version="{EQUAL}"}} 0.0' in metrics
        assert "mirror /_copy;" not in configuration(server)
        counted = sum(
            float(line.rpartition(" ")[2])
            for line in metrics.splitlines()
            if line.startswith("serving_predictions_total")
        )
        assert counted == len(asked.answers), "copies are not counted as predictions"
    assert pointer(volumes)["version"] == EQUAL
    assert "shadow" not in pointer(volumes)
    [line] = audit(volumes)
    assert (line["state"], line["version"]) == ("adopted", EQUAL)
    assert "errors 0.00%, equal labels 100.00%" in line["reason"]


@pytest.mark.parametrize(
    ("version", "more", "words"),
    [
        (TWO, {}, "labels that differ: 1.0000, where serving.shadow.min_equal allows 0.1"),
        (FAILING, {}, "errors: 1.0000, where serving.shadow.max_errors allows 0.01"),
        (SLOW, {"max_slower": 0.5}, "where serving.shadow.max_slower allows 0.5"),
    ],
)
def test_a_version_past_a_limit_is_refused_with_the_figures(
    volumes: Volumes, tmp_path: Path, version: str, more: dict[str, float], words: str
) -> None:
    with Start(volumes.root, tmp_path) as server:
        server.until_ready()
        with clients(server) as asked:
            volumes.point(version, shadow={**LIMITS, **more})
            server.until(lambda: f"{version} is refused, {ONE} is still served: shadowed for 4 s" in server.errors())
            time.sleep(2)
        print(server.errors(), asked.seconds(0.5), asked.seconds(0.99))
        assert words in server.errors()
        assert server.errors().count("error: ") == 1
        assert {(status, by) for status, by, _ in asked.answers} == {(200, ONE)}
        assert 'serving_shadowed_total{result="refused"} 1.0' in server.metrics()
        assert server.serves(ONE)
        server.until(lambda: len(server.workers()) == 2, 20)
    assert pointer(volumes)["version"] == ONE
    [line] = audit(volumes)
    assert (line["event"], line["version"], line["before"]) == ("undone", ONE, version)
    assert words in line["reason"]


@pytest.mark.parametrize("version", [EQUAL, SLOW])
def test_clients_do_not_wait_for_the_copies(volumes: Volumes, tmp_path: Path, version: str) -> None:
    with Start(volumes.root, tmp_path) as server:
        server.until_ready()
        with clients(server) as before:
            time.sleep(4)
        volumes.point(version, shadow={**LIMITS, "seconds": 8})
        server.until(lambda: "gets copies" in server.output())
        with clients(server) as during:
            time.sleep(4)
            assert state(server)["state"] == "shadowed"
    figures = [(each.seconds(0.5), each.seconds(0.99), len(each.answers)) for each in (before, during)]
    print("p50, p99 and requests, before and while shadowing:", figures)
    assert {status for status, *_ in during.answers} == {200}
    # An answer that waits for the slow version would take two seconds.
    assert during.seconds(0.5) < 2 * before.seconds(0.5) + 0.005
    assert during.seconds(0.99) < 2 * before.seconds(0.99) + 0.05


def test_without_traffic_the_version_answers_and_it_is_said(volumes: Volumes, tmp_path: Path) -> None:
    with Start(volumes.root, tmp_path) as server:
        server.until_ready()
        volumes.point(TWO, shadow={**LIMITS, "seconds": 1})
        server.until(lambda: f"switched from {ONE} to {TWO}" in server.output())
        assert "0 copies are fewer than serving.shadow.min_requests (30), so nothing was judged" in server.output()
        assert server.serves(TWO)


def test_a_server_killed_while_shadowing_starts_with_the_old_version_and_shadows_again(
    volumes: Volumes, tmp_path: Path
) -> None:
    with Start(volumes.root, tmp_path) as server:
        server.until_ready()
        volumes.point(TWO, shadow={**LIMITS, "seconds": 60})
        server.until(lambda: "gets copies" in server.output())
        server.process.kill()
        server.process.wait()
    assert pointer(volumes)["shadow"]
    volumes.point(TWO, shadow={**LIMITS, "seconds": 2})
    with Start(volumes.root, tmp_path) as server:
        server.until_ready()
        with clients(server) as asked:
            server.until(lambda: f"{TWO} is refused" in server.errors())
        assert {by for _, by, _ in asked.answers} == {ONE}


def test_a_rollback_while_shadowing_ends_it(volumes: Volumes, tmp_path: Path) -> None:
    with Start(volumes.root, tmp_path) as server:
        server.until_ready()
        volumes.point(EQUAL, shadow={**LIMITS, "seconds": 60})
        server.until(lambda: "gets copies" in server.output())
        volumes.point(ONE)
        server.until(lambda: "the shadowing ends, since the pointer has changed" in server.output())
        assert server.serves(ONE)
        server.until(lambda: len(server.workers()) == 2, 20)
        assert "mirror /_copy;" not in configuration(server)
        assert state(server) == {}


def test_a_pinned_server_shadows_too_and_leaves_the_volume_alone(volumes: Volumes, tmp_path: Path) -> None:
    for version in (EQUAL, TWO):
        record = volumes.volume / "versions" / f"{version}.json"
        record.write_text(json.dumps(volumes.entry(version) | {"shadow": {**LIMITS, "seconds": 2}}))
    before = {path: path.read_bytes() for path in volumes.volume.rglob("*") if path.is_file()}
    for version, wanted, by in ((EQUAL, "passed", EQUAL), (TWO, "refused", ONE)):
        with Start(volumes.root, tmp_path, MODEL_VERSION=version) as server:
            server.until_ready()
            assert server.serves(ONE)
            with clients(server):
                server.until(lambda wanted=wanted: state(server).get("state") == wanted)  # type: ignore[misc]
            found = state(server)
            assert found["version"] == version
            assert "equal labels" in found["reason"]
            server.until(lambda by=by: server.predict()[1]["model"]["version"] == by)  # type: ignore[misc]
    assert {path: path.read_bytes() for path in volumes.volume.rglob("*") if path.is_file()} == before
