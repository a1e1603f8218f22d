"""Answers Prometheus at /metrics: what the workers counted, what TorchServe counts itself, and which model is served.

Reads the files that telemetry.py has the workers write.
"""

from http import HTTPStatus
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving.torchserve.launch import AddressError
from serving.torchserve.management import Connection

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_PORT = 8082


class Monitor:
    """Listens within a `with` block on `host:port`, or without an address on loopback, wherever there is room."""

    def __init__(self, address: str | None) -> None:
        self._given = address
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._model = Gauge("serving_model_info", "The model served", ["name", "version"], registry=self._registry)
        self._switches = Counter(
            "serving_switches", "Changes to another version, by how they ended", ["result"], registry=self._registry
        )
        for result in ("switched", "failed"):
            self._switches.labels(result)
        self._torchserve: Path | int | None = None

    def serves(self, name: str, version: str) -> None:
        """Say which model is served."""
        self._model.clear()
        self._model.labels(name, version).set(1)

    def switched(self, well: bool) -> None:
        """Count a change to another version."""
        self._switches.labels("switched" if well else "failed").inc()

    def watch(self, folder: Path, torchserve: Path | int) -> None:
        """Add what workers write below `folder`, and what TorchServe says at its own address."""
        MultiProcessCollector(self._registry, path=str(folder))  # type: ignore[no-untyped-call]
        self._torchserve = torchserve

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry) + self._of_torchserve()

    @property
    def url(self) -> str:
        """Where they are."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/metrics"

    def __enter__(self) -> Self:
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                found = self.path.partition("?")[0] == "/metrics"
                body = monitor.text() if found else b"see /metrics\n"
                self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Each scrape is no news."""

        self._server = self._listen(Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _listen(self, handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
        host, _, port = (self._given or f"127.0.0.1:{DEFAULT_PORT}").rpartition(":")
        try:
            return ThreadingHTTPServer((host, int(port)), handler)
        except (OSError, ValueError, OverflowError) as error:
            if self._given is None:
                return ThreadingHTTPServer(("127.0.0.1", 0), handler)
            raise AddressError(
                f"{self._given} cannot be used for metrics ({error}): give another HOST:PORT with --metrics"
            ) from error

    def _of_torchserve(self) -> bytes:
        if self._torchserve is None:
            return b""
        connection = Connection(self._torchserve)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read()
        except (OSError, HTTPException):  # it is starting or ending
            return b""
        finally:
            connection.close()
