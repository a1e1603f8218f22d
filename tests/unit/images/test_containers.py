"""What containers need of this machine: volumes that their user can write, and a server that says it is well."""

import hashlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from docker.types import Mount

from pipeline import __main__ as pipeline
from pipeline.images.docker import GID, UID, USER
from pipeline.local.containers import _run_container, give_to_containers
from pipeline.settings import SettingsError, load_params
from serving import __main__ as serving
from serving import canary
from serving.golden import Golden, Item
from steps.registry import CLAIMS, STEPS, Step
from tests.support.model_archive import CLASSES, NAME, VERSION, archive, write_model
from tests.support.settings import PARAMS_FILE, PROJECT_FILE


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data volume with a dataset and with the user's images."""
    for folder in ("dataset/0123", "images/train/7"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "file").touch()
    return tmp_path / "data"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files to another user")
def test_root_gives_the_volumes_but_not_the_users_images_to_the_containers(data: Path) -> None:
    give_to_containers([data])
    for path in (data, data / "dataset", data / "dataset/0123/file"):
        assert (path.stat().st_uid, path.stat().st_gid) == (UID, GID)
    for path in (data / "images", data / "images/train/7/file"):
        assert path.stat().st_uid == os.getuid()


@pytest.mark.skipif(os.getuid() == UID, reason="the files are this user's, who is the containers'")
def test_another_user_gets_the_command_for_root(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: UID + 1)
    with pytest.raises(SettingsError, match=f"sudo chown -R {USER} {data}"):
        give_to_containers([data])


def test_world_writable_volumes_are_unchanged(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: UID + 1)
    for path in (data, *data.rglob("*")):
        path.chmod(0o777)
    before = {path: path.stat().st_uid for path in data.rglob("*")}
    give_to_containers([data])
    assert {path: path.stat().st_uid for path in data.rglob("*")} == before


class Engine:
    """An engine whose containers end at once; it remembers how they were started."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.containers, self.api = self, self

    def run(self, image: str, command: list[str], **options: Any) -> "Engine":
        self.started = options
        return self

    def logs(self, stream: bool) -> Iterator[bytes]:
        yield b"said\n"

    def wait(self) -> dict[str, int]:
        return {"StatusCode": 3}

    def remove_container(self, name: str, force: bool) -> None: ...


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_container_has_the_volumes_of_its_step_and_no_network_that_it_does_not_need(
    step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, volumes = Engine(), [Mount(f"/{volume}", f"/on/this/machine/{volume}", type="bind") for volume in CLAIMS]
    start = partial(_run_container, {"an-image:1": step}, {"preprocess"})
    assert start(client=engine, image="an-image:1", command=[], volumes={}, mounts=volumes, init=True) == 3
    assert tuple(mount["Target"] for mount in engine.started["mounts"]) == step.mounts
    assert engine.started["network_mode"] == ("bridge" if step.name == "preprocess" else "none")
    assert engine.started["init"] is True
    assert capsys.readouterr().out == "said\n"


@pytest.mark.parametrize(("source", "online"), [("sample", set()), ("folder", set()), ("mnist", {"preprocess"})])
def test_only_a_source_that_downloads_needs_the_network(source: str, online: set[str]) -> None:
    params = load_params(PARAMS_FILE)
    chosen = params.model_copy(update={"data": params.data.model_copy(update={"source": source})})
    assert {step.name for step in STEPS if step.needs_network(chosen)} == online


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """Volumes with a served model."""
    mar = archive(write_model(tmp_path / "model"), tmp_path / "deploy-model/model-store/model.mar")
    pointer = {
        "name": NAME,
        "version": VERSION,
        "mar": mar.name,
        "sha256": hashlib.sha256(mar.read_bytes()).hexdigest(),
    }
    (tmp_path / "deploy-model/current.json").write_text(json.dumps(pointer))
    return tmp_path


def test_without_a_model_docker_is_not_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pipeline.main(["serve", "--volumes", str(tmp_path), "--project", str(PROJECT_FILE)]) == 2
    assert capsys.readouterr().err.startswith("error: nothing is deployed yet, ")


def test_serving_in_an_image_needs_docker(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(deployed))
    project = str(PROJECT_FILE)
    assert pipeline.main(["serve", "--volumes", str(deployed), "--project", project, "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: Docker is needed, and ")


def test_a_port_in_use_is_named(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = str(PROJECT_FILE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert pipeline.main(["serve", "--volumes", str(deployed), "--project", project, "--port", port]) == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


class _Server(HTTPServer):
    answer: tuple[int, dict[str, Any]]
    ping = 500

    def asked(self) -> None:
        """What happens when a question is there, before it is answered."""


class _Answers(BaseHTTPRequestHandler):
    server: _Server

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked()
        status, answer = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.send_response(self.server.ping if self.path == "/ping" else 404)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def probe(port: int, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["serving", "probe", "--port", str(port), *more])
    return serving.main()


@pytest.fixture
def port(server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Of a server that has said that it is ready with the canary of VERSION."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("MODEL_VERSION", raising=False)
    found: int = server.server_address[1]
    leave(found, VERSION)
    return found


def leave(port: int, *versions: str) -> None:
    """The canaries of versions, each with a label of its own."""
    goldens = [Golden(each, (Item(b"image", label_of(each), label_of(each), 0.1),)) for each in versions]
    canary.write_canary(port, f"http://127.0.0.1:{port}/predictions/{NAME}", *goldens)


def label_of(version: str) -> str:
    return CLASSES[0] if version == VERSION else f"{version} {CLASSES[0]}"


def answer_as(version: str) -> tuple[int, dict[str, Any]]:
    return 200, {"label": label_of(version), "distance": 0.1, "model": {"name": NAME, "version": version}}


@pytest.mark.parametrize(
    ("status", "label", "version", "ready", "live"),
    [
        (200, CLASSES[0], VERSION, 0, 0),
        (200, CLASSES[1], VERSION, 1, 0),
        (200, CLASSES[0], "another", 1, 0),
        (503, CLASSES[0], VERSION, 1, 1),
    ],
)
def test_a_server_is_well_if_it_answers_as_it_should(
    port: int,
    server: _Server,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    label: str,
    version: str,
    ready: int,
    live: int,
) -> None:
    server.answer = status, {"label": label, "distance": 0.1, "model": {"name": NAME, "version": version}}
    assert probe(port, monkeypatch) == ready
    assert probe(port, monkeypatch, "--live") == live


def test_a_server_of_another_version_than_the_pods_is_not_well(
    port: int, server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = answer_as(VERSION)
    monkeypatch.setenv("MODEL_VERSION", VERSION)
    assert probe(port, monkeypatch) == 0
    monkeypatch.setenv("MODEL_VERSION", "another")
    assert probe(port, monkeypatch) == 1


@pytest.mark.parametrize(
    ("read", "left"),
    [([VERSION], [VERSION, "another"]), ([VERSION], ["another"]), ([VERSION, "another"], ["another"])],
    ids=["began", "began and ended", "ended"],
)
def test_a_server_that_switches_while_it_is_asked_is_well(
    port: int, server: _Server, monkeypatch: pytest.MonkeyPatch, read: list[str], left: list[str]
) -> None:
    def switch() -> None:
        leave(port, *left)
        server.answer = answer_as("another")

    leave(port, *read)
    monkeypatch.setattr(server, "asked", switch)
    assert probe(port, monkeypatch) == 0
    monkeypatch.setattr(server, "asked", lambda: None)
    server.answer = answer_as("a third")
    assert probe(port, monkeypatch) == 1


def test_a_server_whose_switch_fails_while_it_is_asked_is_well(
    port: int, server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(port, VERSION, "another")
    answers = [answer_as("another"), answer_as(VERSION)]

    def fail() -> None:
        if len(answers) == 1:
            leave(port, VERSION)
        server.answer = answers.pop(0) if answers else answer_as(VERSION)

    monkeypatch.setattr(server, "asked", fail)
    assert probe(port, monkeypatch) == 0
    assert not answers


def test_a_server_that_has_not_said_that_it_is_ready_is_live_alone(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert probe(server.server_address[1], monkeypatch) == 1
    assert probe(server.server_address[1], monkeypatch, "--live") == 1
    server.ping = 200
    assert probe(server.server_address[1], monkeypatch) == 1
    assert probe(server.server_address[1], monkeypatch, "--live") == 0


def test_a_server_that_is_too_busy_to_answer_is_live(
    port: int, server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "asked", lambda: time.sleep(0.3))
    server.answer = answer_as(VERSION)
    server.ping = 200
    assert probe(port, monkeypatch, "--timeout", "0.2") == 1
    assert probe(port, monkeypatch, "--timeout", "0.2", "--live") == 0


def test_a_server_that_is_not_there_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert probe(port, monkeypatch) == 1
    assert probe(port, monkeypatch, "--live") == 1
