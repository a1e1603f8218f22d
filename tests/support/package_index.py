"""A package index on loopback, and the smallest wheel that pip takes for a build of torch."""

import contextlib
import http.server
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.in_thread import answering

WHEEL = "torch-2.13.0+cpu-py3-none-any.whl"


def write_wheel(folder: Path) -> Path:
    """The smallest wheel that pip takes for the CPU build."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        info = "torch-2.13.0+cpu.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder / WHEEL


class Index(http.server.BaseHTTPRequestHandler):
    """A package index: the pages and files of `answers`, by path; anything else is forbidden, as a proxy says it."""

    answers: dict[str, bytes]

    def do_GET(self) -> None:
        body = self.answers.get(self.path)
        self.send_response(200 if body is not None else 403)
        self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def index(answers: dict[str, bytes]) -> Iterator[str]:
    handler = type("Handler", (Index,), {"answers": answers})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    with answering(server):
        yield f"http://127.0.0.1:{server.server_port}"


def page(*names: str) -> bytes:
    return "".join(f'<a href="../files/{name.replace("+", "%2B")}">{name}</a>' for name in names).encode()
