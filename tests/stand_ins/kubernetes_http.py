"""The Service of the stand-in's pods, and HTTP on loopback for it and for the Kubernetes API."""

import json
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from tests.stand_ins.kubernetes import Cluster, Json
from tests.support.in_thread import InThread


class Service:
    """The Service: each connection goes to the next ready pod, which answers with its version."""

    def __init__(self, cluster: Cluster, answers: dict[str | None, dict[bytes, Json]]) -> None:
        self.cluster, self.answers, self._turn = cluster, answers, count()
        self.late: list[str] = []  # versions of deleted pods, which still answer first
        self.by: list[str | None] = []  # the version that answered each request
        self.shadows: list[Json] = []  # what pods say of the version that they shadow, the next first

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Json | None]:
        """TorchServe's answer to one image; status 0 if no pod is ready."""
        with self.cluster.lock:
            ready = [pod.version for pod in self.cluster.pods if pod.ready]
        if not ready:
            return 0, None
        if (method, urlsplit(url).path) == ("GET", "/v1/models/digits"):
            shadow = self.shadows.pop(0) if self.shadows else None
            return 200, {"name": "digits", "ready": True} | ({"shadow": shadow} if shadow else {})
        if method not in ("PUT", "POST") or urlsplit(url).path != "/predictions/digits":
            return 404, {"code": 404, "type": "ModelNotFoundException", "message": f"Model not found: {url}"}
        version = self.late.pop(0) if self.late else ready[next(self._turn) % len(ready)]
        self.by.append(version)
        answer = self.answers.get(version, {}).get(body)
        if answer is None:
            return 503, {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}
        return 200, {**answer, "model": {"name": "digits", "version": version}}


class Served(Protocol):
    """What answers requests."""

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Json | str | None]:
        """Status and content of the answer, JSON or text; status 0 closes the connection."""


class Server(InThread):
    """A context manager that serves a Cluster or a Service on loopback, by TLS if a certificate is given."""

    def __init__(self, served: Served, certificate: Path | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = served.answer(self.command, self.path, self.headers, body)
                if status == 0:
                    self.connection.close()
                    return
                text = isinstance(content, str)
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if text else "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _do  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_port
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
