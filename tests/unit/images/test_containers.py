"""What containers need of this machine: volumes that their user can write, and a server that says it is well."""

import hashlib
import json
import os
import socket
import sys
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
from steps.registry import CLAIMS, STEPS, Step
from tests.support.in_thread import answering
from tests.support.model_archive import NAME, VERSION, archive, write_model
from tests.support.settings import PARAMS_FILE, PROJECT_FILE

PARAMS = ("--params", str(PARAMS_FILE))


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


@pytest.mark.parametrize(
    ("source", "backbone", "online"),
    [
        ("sample", "auto", set()),
        ("folder", "auto", {"preprocess"}),
        ("folder", "small", set()),
        ("mnist", "small", {"preprocess"}),
    ],
)
def test_only_what_is_downloaded_needs_the_network(source: str, backbone: str, online: set[str]) -> None:
    params = load_params(PARAMS_FILE)
    data, training = ({"source": source}, {"backbone": backbone})
    chosen = params.model_copy(
        update={"data": params.data.model_copy(update=data), "train": params.train.model_copy(update=training)}
    )
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
    assert pipeline.main(["serve", "--volumes", str(tmp_path), "--project", str(PROJECT_FILE), *PARAMS]) == 2
    assert capsys.readouterr().err.startswith("error: nothing is deployed yet, ")


def test_serving_in_an_image_needs_docker(
    deployed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(deployed))
    project = str(PROJECT_FILE)
    assert pipeline.main(["serve", "--volumes", str(deployed), "--project", project, "--port", "0", *PARAMS]) == 2
    assert capsys.readouterr().err.startswith("error: Docker is needed, and ")


def test_a_port_in_use_is_named(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = str(PROJECT_FILE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert pipeline.main(["serve", "--volumes", str(deployed), "--project", project, "--port", port, *PARAMS]) == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in capsys.readouterr().err


class _Ping(BaseHTTPRequestHandler):
    """Answers /ping with what the server has been told."""

    def do_GET(self) -> None:
        status, rule = self.server.said if self.path == "/ping" else (404, None)  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"error": {"rule": rule}} if rule else {"status": "Healthy"}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("said", "ready", "live"),
    [((200, None), 0, 0), ((503, "not-ready"), 1, 0), ((503, "unavailable"), 1, 1), ((504, "too-slow"), 1, 1)],
)
def test_a_server_is_ready_if_ping_is_ok_and_live_if_its_own_process_answers(
    said: tuple[int, str | None], ready: int, live: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = HTTPServer(("127.0.0.1", 0), _Ping)
    server.said = said  # type: ignore[attr-defined]
    with answering(server):
        assert probe(server.server_address[1], monkeypatch) == ready
        assert probe(server.server_address[1], monkeypatch, "--live") == live


def probe(port: int, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["serving", "probe", "--port", str(port), *more])
    return serving.main()


def test_a_server_that_does_not_answer_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert probe(port, monkeypatch, "--timeout", "0.1", "--live") == 1
    assert probe(port, monkeypatch, "--live") == 1
