"""What this project's own process answers, through the door: readiness, and metrics. Listens on a Unix socket."""

import json
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Lock, Thread
from typing import Any, Self

from serving.front.door import NO_MODEL
from serving.front.keys import Keys

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_FRESH_SECONDS = 0.5  # an answer of the canary serves everybody who asks so soon

Reply = tuple[HTTPStatus, str, bytes]
_LOADING = "the model is being loaded, or answers wrongly: ask again a few seconds later"


class Control:
    """A server that listens within a `with` block.

    Args:
        path: The Unix socket.
        is_ready: Whether the canary is answered right.
        metrics: Returns all metrics.
        keys: The keys of which requests for predictions need one; None if they need none.
        shadow: What is known of the version that is shadowed, or was last; None if none was.

    Attributes:
        name: The model's name; None before the first model is deployed.
    """

    def __init__(
        self,
        path: Path,
        is_ready: Callable[[], bool],
        metrics: Callable[[], bytes],
        keys: Keys | None,
        shadow: Callable[[], dict[str, str] | None],
    ) -> None:
        self.name: str | None = None
        self._path, self._metrics, self._keys, self._shadow = path, metrics, keys, shadow
        self._is_ready = _Shared(is_ready)

    def answer(self, path: str, authorization: str) -> Reply:
        """Answer a GET.

        Args:
            path: The path, without its query.
            authorization: The header of that name; empty if there is none.

        Returns:
            Status, content type and body.
        """
        if path == "/allowed":
            allowed = self._keys is None or self._keys.allow(authorization)
            return _json(HTTPStatus.OK if allowed else HTTPStatus.UNAUTHORIZED, {})
        if path == "/metrics":
            return HTTPStatus.OK, METRICS_TYPE, self._metrics()
        if self.name is None:
            return _not_ready(NO_MODEL)
        if path not in ("/ping", f"/v1/models/{self.name}"):
            return _json(HTTPStatus.NOT_FOUND, {})
        if not self._is_ready():
            return _not_ready(_LOADING)
        shadow = {"shadow": found} if (found := self._shadow()) else {}
        state = {"name": self.name, "ready": True} | shadow
        return _json(HTTPStatus.OK, {"status": "Healthy"} if path == "/ping" else state)

    def __enter__(self) -> Self:
        control = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                status, kind, body = control.answer(self.path.partition("?")[0], self.headers.get("Authorization", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if status == HTTPStatus.SERVICE_UNAVAILABLE:
                    self.send_header("Retry-After", "3")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815 - the library's name

            def address_string(self) -> str:
                return "the door"  # a Unix socket has no host

            def log_message(self, *_: object) -> None:
                """The door logs."""

        class Server(ThreadingMixIn, UnixStreamServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """Whoever asked has gone."""

        self._server = Server(str(self._path), Handler)
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Shared:
    """A question that is asked once for all who ask at about the same time."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask, self._lock = ask, Lock()
        self._said, self._when = False, float("-inf")

    def __call__(self) -> bool:
        with self._lock:
            if time.monotonic() - self._when > _FRESH_SECONDS:
                self._said, self._when = self._ask(), time.monotonic()
            return self._said


def _not_ready(message: str) -> Reply:
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return _json(status, {"error": {"status": status, "rule": "not-ready", "message": message}})


def _json(status: HTTPStatus, content: dict[str, Any]) -> Reply:
    return status, "application/json", json.dumps(content).encode() + b"\n"
