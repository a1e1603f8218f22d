"""make drift: what it prints, its exit status, its page, what it leaves for the server's metrics, and what it needs."""

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from contract.loop import drift as record
from contract.loop.collected import FOLDER
from pipeline.__main__ import main
from serving.collect.drift_metrics import DriftMetrics
from tests.support.drifting import VERSION, collect, sample, serve
from tests.support.in_thread import answering
from tests.support.settings import PARAMS_FILE

CLOSED = "http://127.0.0.1:9/metrics"  # no server answers there


@pytest.fixture
def drift(volumes: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command: its exit status, and all that it printed."""

    def run(*words: str, metrics: str = CLOSED) -> tuple[int, str]:
        common = ["--volumes", str(volumes), "--params", str(PARAMS_FILE), "--metrics", metrics]
        status = main(["drift", *common, *words])
        done = capsys.readouterr()
        return status, done.out + done.err

    return run


@pytest.fixture
def draw(volumes: Path) -> np.random.Generator:
    """Draws the answers to requests; the served version's reference is there."""
    made = np.random.default_rng(0)
    serve(volumes, sample(made, 300))
    return made


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [({}, 0, "none"), ({"scale": 1.3}, 3, "watch"), ({"scale": 2.0, "unknown": 0.2}, 4, "retrain")],
)
def test_the_last_line_and_the_exit_status_have_the_word(
    drift: Callable[..., tuple[int, str]], draw: Any, volumes: Path, change: dict[str, float], status: int, word: str
) -> None:
    collect(volumes, sample(draw, 200, **change))
    found, printed = drift()
    assert found == status, printed
    assert printed.splitlines()[-1].startswith(f"{word}: ")
    assert f"version {VERSION}: 200 images collected at random since " in printed
    kept = record.read(volumes / FOLDER)
    assert kept is not None
    assert (kept.word, kept.level, kept.images, kept.version, kept.source) == (
        word,
        status and status - 2,
        200,
        VERSION,
        "collected",
    )
    assert set(kept.effects) == {"distance", "features distance", "unknown", "classes"}


def test_json_says_all_that_the_table_says(drift: Callable[..., tuple[int, str]], draw: Any, volumes: Path) -> None:
    collect(volumes, sample(draw, 150, scale=2.0))
    status, printed = drift("--json")
    said = json.loads(printed)
    assert (status, said["word"], said["images"]) == (4, "retrain", 150)
    assert [each["name"] for each in said["findings"]] == ["distance", "features distance", "unknown", "classes"]
    first = said["findings"][0]
    assert first["word"] == "retrain"
    assert first["p"] < 0.01 < first["limits"][0] < first["effect"]


@pytest.mark.slow
def test_the_page_is_self_contained(
    drift: Callable[..., tuple[int, str]], draw: Any, volumes: Path, tmp_path: Path
) -> None:
    collect(volumes, sample(draw, 150, scale=2.0))
    status, _ = drift("--html", str(tmp_path / "drift.html"))
    page = (tmp_path / "drift.html").read_text()
    assert status == 4
    assert "<h1>Drift: retrain</h1>" in page
    assert page.count("<svg") == 1
    assert not re.findall(r"""(?:src|href)=["'](?!#)""", page)
    status, printed = drift("--html", str(tmp_path / "nowhere" / "drift.html"))
    assert (status, "cannot be written" in printed) == (2, True)


def test_without_a_model_or_answers_it_says_what_to_do(drift: Callable[..., tuple[int, str]], volumes: Path) -> None:
    assert drift() == (2, "error: nothing is served: make run deploys a model, and make serve serves it\n")
    serve(volumes, sample(np.random.default_rng(0), 300))
    status, printed = drift()
    assert status == 2
    assert "no server answers at http://127.0.0.1:9/metrics" in printed
    assert "serving.collect" in printed


def test_an_archive_of_an_earlier_version_is_named(drift: Callable[..., tuple[int, str]], volumes: Path) -> None:
    serve(volumes, sample(np.random.default_rng(0), 300))
    with zipfile.ZipFile(next((volumes / "deploy-model/model-store").iterdir()), "w") as archive:
        archive.writestr("model.json", "{}")
    status, printed = drift()
    assert status == 2
    assert "an earlier version of this project made it, and the next version that make run deploys does" in printed


def test_a_folder_that_cannot_be_written_costs_the_metrics_alone(
    drift: Callable[..., tuple[int, str]], draw: Any, volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    collect(volumes, sample(draw, 150))
    monkeypatch.setattr(record, "write", refuse)
    status, printed = drift()
    assert status == 0
    assert "the server's metrics do not tell of this: cannot write " in printed


METRICS = """\
serving_model_info{{name="digits",version="{version}"}} 1.0
serving_switches_total{{result="switched"}} {switched}
serving_predictions_total{{label="7"}} 150.0
serving_predictions_total{{label="unknown"}} 50.0
serving_nearest_distance_bucket{{le="0.05"}} 20.0
serving_nearest_distance_bucket{{le="0.1"}} 100.0
serving_nearest_distance_bucket{{le="+Inf"}} 200.0
"""


@contextmanager
def exposed(text: str) -> Iterator[str]:
    """The address of a server with this page of metrics."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    with answering(server):
        yield f"http://127.0.0.1:{server.server_port}/metrics"


@pytest.mark.usefixtures("draw")
def test_without_collected_images_the_servers_metrics_are_compared(
    drift: Callable[..., tuple[int, str]], volumes: Path
) -> None:
    with exposed(METRICS.format(version=VERSION, switched=0)) as address:
        status, printed = drift(metrics=address)
    assert status == 4, printed
    assert "200 images that the running server counted since its start, by its metrics, which are coarse" in printed
    assert "25.0% are unknown" in printed
    assert "features distance" not in printed
    kept = record.read(volumes / FOLDER)
    assert kept is not None
    assert (kept.source, kept.since) == ("metrics", None)


@pytest.mark.usefixtures("draw")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (METRICS.format(version="3333", switched=0), "are of other versions, too"),
        (METRICS.format(version=VERSION, switched=1), "are of other versions, too"),
        ("<html>", "has no metrics of a server"),
        ("up 1\n", "has no metrics of a server"),
    ],
)
def test_metrics_of_others_are_refused(drift: Callable[..., tuple[int, str]], text: str, said: str) -> None:
    with exposed(text) as address:
        status, printed = drift(metrics=address)
    assert (status, said in printed) == (2, True), printed


def test_the_servers_metrics_tell_of_its_own_version_only(
    drift: Callable[..., tuple[int, str]], draw: Any, volumes: Path
) -> None:
    registry, serves = CollectorRegistry(), [VERSION]
    registry.register(DriftMetrics(volumes / FOLDER, lambda: serves[0]))
    assert generate_latest(registry) == b""
    collect(volumes, sample(draw, 150, scale=2.0))
    drift()
    told = generate_latest(registry).decode()
    assert "serving_drift 2.0\n" in told
    assert "serving_drift_images 150.0\n" in told
    assert re.search(r'serving_drift_effect\{test="unknown"\} \d', told)
    assert re.search(r"serving_drift_timestamp_seconds 1\.\d+e\+09", told)
    serves[0] = "3333"
    assert generate_latest(registry) == b""
    serves[0] = VERSION
    for damage in ("{", '{"word": "maybe"}', "[]", ""):
        (volumes / FOLDER / record.FILE).write_text(damage)
        assert generate_latest(registry) == b""
