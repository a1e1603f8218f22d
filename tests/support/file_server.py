"""A server on loopback for one file: it breaks its first transfer off, redirects as a hub does, and keeps account."""

import http.server
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.in_thread import answering


@dataclass
class Served:
    """The file as it is served: its address, the ranges that were asked for, and the SHA-256 that the server names."""

    data: bytes
    url: str = ""
    names: str = ""
    breaks: bool = False
    asked: list[str | None] = field(default_factory=list)


@contextmanager
def serve(served: Served) -> Iterator[Served]:
    """Serve the file at `<url>/<anything>` until the end of the block; `breaks`: half of it, the first time."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/kept/"):
                self.send_response(302)
                self.send_header("Location", "/kept/file")
                if served.names:
                    self.send_header("X-Linked-ETag", f'"{served.names}"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = self.headers.get("Range")
            first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            served.asked.append(asked)
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(served.data) - first))
            self.end_headers()
            self.wfile.write(served.data[first : len(served.data) // 2 if served.breaks else None])
            served.breaks = False

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}"
    with answering(server):
        yield served
