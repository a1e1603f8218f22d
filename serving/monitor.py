"""Prometheus's /metrics: the workers' metrics, TorchServe's own, and the model being served.

Reads the files that the workers write, see serving/model/telemetry.py.
"""

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from serving.connection import send_local
from serving.torchserve.launch import AddressError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEFAULT_PORT = 8082


class Monitor:
    """A server for /metrics that listens within a `with` block.

    Args:
        address: `host:port`; None for the loopback address with DEFAULT_PORT, or any port if that is taken.
    """

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

    def set_model(self, name: str, version: str) -> None:
        """Set the name and version of the model being served."""
        self._model.clear()
        self._model.labels(name, version).set(1)

    def count_switch(self, succeeded: bool) -> None:
        """Count a switch to another version."""
        self._switches.labels("switched" if succeeded else "failed").inc()

    def add_sources(self, folder: Path, torchserve: Path | int) -> None:
        """Add the metrics of a server.

        Args:
            folder: Where its workers write their metrics.
            torchserve: The address of TorchServe's own metrics: a Unix socket, or a port of the loopback address.
        """
        MultiProcessCollector(self._registry, path=str(folder))  # type: ignore[no-untyped-call]
        self._torchserve = torchserve

    def render(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry) + self._of_torchserve()

    @property
    def url(self) -> str:
        """The address of the metrics."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/metrics"

    def __enter__(self) -> Self:
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                found = self.path.partition("?")[0] == "/metrics"
                body = monitor.render() if found else b"see /metrics\n"
                self.send_response(HTTPStatus.OK if found else HTTPStatus.NOT_FOUND)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Do not log scrapes."""

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
        try:
            return send_local(self._torchserve, "GET", "/metrics").body
        except OSError:  # it is starting or ending
            return b""
