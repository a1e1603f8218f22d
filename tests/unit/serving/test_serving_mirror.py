"""The door's copies of requests, with a stand-in for TorchServe: their number is limited, whatever clients send."""

import threading
import time
from collections import Counter
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from serving.front.configuration import Address, reserve
from serving.front.door import Door
from serving.front.mirror import Mirror
from serving.front.options import Options
from serving.log import Log
from tests.support.in_thread import answering

NAME, AT_ONCE, A_SECOND = "digits", 10, 50


@pytest.mark.slow
@pytest.mark.parametrize("options", [Options(), Options(rate=10_000)], ids=["no rate", "a rate for clients"])
def test_copies_are_few_however_many_requests_there_are(tmp_path: Path, options: Options) -> None:
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    class TorchServe(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                asked[self.path] += 1
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), TorchServe)
    address, metrics = reserve(Address(), "--port"), reserve(Address(), "--metrics")
    with answering(server), Door(address, metrics, NAME, Log(tmp_path / "log"), options) as door:
        door.open_to(server.server_port, None)
        door.start_mirror(Mirror("2", 1.0), lambda _: None, lambda _: None)
        began, sent = time.monotonic(), 0
        connection = HTTPConnection("127.0.0.1", address.port, timeout=30)
        while sent < 300 or time.monotonic() - began < 1:
            connection.request("POST", f"/predictions/{NAME}", b"image", {"Content-Type": "image/png"})
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            sent += 1
        took = time.monotonic() - began
        door.pause_mirror()
        while not door.is_mirror_idle():
            time.sleep(0.05)
        connection.close()
    copies = asked[f"/predictions/{NAME}/2"]
    assert asked[f"/predictions/{NAME}"] == sent
    assert AT_ONCE < copies <= AT_ONCE + 1 + A_SECOND * took
