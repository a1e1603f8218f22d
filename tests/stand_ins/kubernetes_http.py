"""The Service before the stand-in's pods, and how it and the Kubernetes API are spoken to: HTTP on loopback."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.stand_ins.kubernetes import Cluster, Json


class Service:
    """What stands before the pods: each connection goes to the next that is ready, and is answered by its version."""

    def __init__(self, cluster: Cluster, answers: dict[str | None, dict[bytes, Json]]) -> None:
        self.cluster, self.answers, self._turn = cluster, answers, count()
        self.late: list[str] = []  # versions of pods that are gone, which answer first
        self.by: list[str | None] = []  # which version was asked, in turn

    def answer(self, method: str, url: str, headers: Any, body: bytes) -> tuple[int, Json | None]:
        """TorchServe's answer to one image, or nothing from nobody."""
        with self.cluster.lock:
            ready = [pod.version for pod in self.cluster.pods if pod.ready]
        if not ready:
            return 0, None
        if method not in ("PUT", "POST") or urlsplit(url).path != "/predictions/digits":
            return 404, {"code": 404, "type": "ModelNotFoundException", "message": f"Model not found: {url}"}
        version = self.late.pop(0) if self.late else ready[next(self._turn) % len(ready)]
        self.by.append(version)
        answer = self.answers.get(version, {}).get(body)
        if answer is None:
            return 503, {"code": 503, "type": "ServiceUnavailableException", "message": "no worker"}
        return 200, {**answer, "model": {"name": "digits", "version": version}}


class Server:
    """Serves one of the two on loopback while it is entered, by TLS if it is given a certificate."""

    def __init__(self, served: Cluster | Service, certificate: Path | None = None) -> None:
        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, content = served.answer(self.command, self.path, self.headers, body)
                if status == 0:
                    self.connection.close()
                    return
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
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

    def __enter__(self) -> "Server":
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
