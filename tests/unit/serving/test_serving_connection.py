"""HTTP requests of serving: over TCP and Unix sockets, past proxies, and with errors that are OSErrors."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer, UnixStreamServer
from tempfile import TemporaryDirectory

import pytest

from contract.paths import ROOT
from serving.connection import Response, send, send_local
from tests.support.in_thread import answering

PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Echo(BaseHTTPRequestHandler):
    """Answers 418 with the method, the path, the content type and the body of the request."""

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.headers.get("Content-Type", "no type")
        self.send_response(418)
        self.end_headers()
        self.wfile.write(f"{self.command} {self.path} {kind} ".encode() + body)

    def do_GET(self) -> None:
        self.do_PUT()

    def address_string(self) -> str:
        return "the other end"  # a Unix socket has no host

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """A port of the loopback address where Echo answers."""
    server = ThreadingTCPServer(("127.0.0.1", 0), Echo)
    with answering(server):
        yield server.server_address[1]


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_status_reason_and_body_are_returned_whatever_the_status(port: int) -> None:
    response = send("PUT", f"http://127.0.0.1:{port}/a%2Fb?c=1", body=b"\0\xff")
    assert response == Response(418, "I'm a Teapot", b"PUT /a%2Fb?c=1 no type \0\xff")
    assert send_local(port, "GET", "/a").body == b"GET /a no type "
    typed = send("PUT", f"http://127.0.0.1:{port}/", body=b"", headers={"Content-Type": "image/png"})
    assert typed.body == b"PUT / image/png "


def test_a_unix_socket_is_asked_by_its_path() -> None:
    with TemporaryDirectory(prefix="t-") as folder:  # pytest's own folders have paths too long for a socket
        path = Path(folder, "socket")
        with answering(UnixStreamServer(str(path), Echo)):
            assert send_local(path, "GET", "/models?x=%2F").body == b"GET /models?x=%2F no type "
        with pytest.raises(ConnectionError):
            send_local(path, "GET", "/models")


def test_no_proxy_of_the_environment_is_used(port: int, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert send("GET", f"http://127.0.0.1:{port}/").status == 418


def test_no_answer_is_an_oserror(closed_port: int) -> None:
    with pytest.raises(ConnectionError, match="refused"):
        send("GET", f"http://127.0.0.1:{closed_port}/")
    with pytest.raises(ConnectionError, match="not a URL"):
        send("GET", "http://x:y/")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError, match="timed out"):
        send("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.05)


@pytest.mark.parametrize("answer", [b"", b"220 mail.example ESMTP\r\n"])
def test_what_is_not_http_is_an_oserror(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        with pytest.raises(ConnectionError, match="not HTTP"):
            send("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


@pytest.mark.parametrize("words", [[], ["--live"]])
def test_a_probe_starts_without_httpx(words: list[str], closed_port: int) -> None:
    code = "import sys; from serving.__main__ import main; print(main(), 'httpx' in sys.modules)"
    command = [sys.executable, "-c", code, "probe", "--port", str(closed_port), *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said, status = done.stdout.splitlines()
    assert said.startswith(f"port {closed_port} does not answer: ")
    assert status == "1 False"
