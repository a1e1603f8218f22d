"""Runs a server of a test in a thread of this process."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import ThreadingHTTPServer
from socketserver import BaseServer
from typing import Self


@contextmanager
def answering(server: BaseServer) -> Iterator[None]:
    """Let a server answer until the end of the context, and close it."""
    thread = threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class InThread:
    """A server that answers within a `with` block; whoever derives from this makes `_http`."""

    _http: ThreadingHTTPServer
    _running: AbstractContextManager[None]

    def __enter__(self) -> Self:
        self._running = answering(self._http)
        self._running.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.__exit__(None, None, None)
