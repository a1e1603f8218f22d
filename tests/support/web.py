"""A web server, and a proxy, on loopback: each answers as a function says, and remembers what it was asked."""

import select
import socket
import ssl
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.support.in_thread import InThread

LOGIN_PAGE = "<html><head><title>Log in to\n Your Account</title></head><body>Dex</body></html>"


class Asked(NamedTuple):
    """A request: its method, its target as sent, its headers, and its body."""

    method: str
    target: str
    headers: Any
    body: bytes


class Said(NamedTuple):
    """An answer."""

    status: int = 200
    body: str = "{}"
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    kind: str = "application/json"


class Web(InThread):
    """A context manager that serves the answers of a function, by HTTPS with a context."""

    def __init__(self, answer: Callable[[Asked], Said], context: ssl.SSLContext | None = None) -> None:
        self.asked: list[Asked] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Asked(self.command, self.path, self.headers, body)
                web.asked.append(request)
                said = answer(request)
                self.send_response(said.status)
                for name, value in {"Content-Type": said.kind, **said.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said.body.encode())))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(said.body.encode())

            do_GET = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815

            def do_CONNECT(self) -> None:
                web.asked.append(Asked(self.command, self.path, self.headers, b""))
                host, _, port = self.path.rpartition(":")
                self.send_response(200)
                self.end_headers()
                with socket.create_connection(("127.0.0.1" if host == "name.invalid" else host, int(port))) as far:
                    _join(self.connection, far)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that hangs up
        if context:
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.address = f"127.0.0.1:{self._http.server_port}"
        self.port = self._http.server_port
        self.url = f"{'https' if context else 'http'}://{self.address}"


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes between two connections until one ends."""
    while True:
        for ready in select.select([one, other], [], [], 10)[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)
