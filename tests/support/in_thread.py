"""Runs an HTTP server of a test in a thread of this process."""

import threading
from http.server import ThreadingHTTPServer
from typing import Self


class InThread:
    """A server that answers within a `with` block; whoever derives from this makes `_http`."""

    _http: ThreadingHTTPServer

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
