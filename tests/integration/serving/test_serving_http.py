"""HTTP as bytes on a socket: answers in order, plain old clients, limits, refusals of what has two meanings."""

import gzip
import json
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from serving.server import Server
from tests.support.attack import IMAGE, LIMIT, PATH
from tests.support.model_archive import CLASSES, picture, png

ERROR = re.compile(rb'"rule": "([a-z-]+)"')
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


def request(*headers: str, body: bytes = IMAGE, length: object = None, line: str = f"POST {PATH} HTTP/1.1") -> bytes:
    """A request without Content-Length if `length` is ""."""
    sizes = [] if length == "" else [f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([line, "Host: here", *sizes, *headers, "", ""]).encode("latin-1") + body


def exchange(port: int, data: bytes, timeout: float = 20, *, host: str = "127.0.0.1") -> bytes:
    """All that is answered until the server closes, or is silent for `timeout` seconds."""
    with socket.create_connection((host, port), timeout=timeout) as connection:
        connection.sendall(data)
        answer = b""
        try:
            while piece := connection.recv(1 << 16):
                answer += piece
        except (TimeoutError, ConnectionResetError):
            answer += b"<not closed>"
        return answer


def parsed(answer: bytes) -> tuple[int, dict[str, str], Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, json.loads(body)


def refused(answer: bytes, status: int, rule: str) -> dict[str, str]:
    """Check that this is one error of the common form; its headers."""
    got, headers, content = parsed(answer)
    assert (got, content["error"]["status"], content["error"]["rule"]) == (status, status, rule)
    assert content["error"]["message"]
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    return headers


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    images = [png(picture(quarter)) for quarter in range(4)]
    wanted = [(number * 7 + number // 3) % 4 for number in range(40)]
    for _ in range(5):
        pieces = [request(body=images[quarter]) for quarter in wanted]
        answer = exchange(server.port, b"".join(pieces) + request("Connection: close", body=images[3]))
        labels = re.findall(rb'\{"label": "([a-z ]+)", "unknown', answer)
        assert [label.decode() for label in labels] == [CLASSES[quarter] for quarter in [*wanted, 3]]


@pytest.mark.parametrize(
    "data",
    [
        request(line=f"POST {PATH} HTTP/1.0"),
        f"POST {PATH} HTTP/1.0\r\nContent-Length: {len(IMAGE)}\r\n\r\n".encode() + IMAGE,  # ab and PHP, without Host
        request("Connection: close"),
        request("Connection: close", line=f"PUT {PATH} HTTP/1.1"),
        request("Connection: close", "Expect: 100-continue"),
    ],
    ids=["1.0", "no Host", "close", "PUT", "continue"],
)
def test_a_connection_is_closed_after_the_answer_when_the_client_asks_for_that(server: Server, data: bytes) -> None:
    began = time.monotonic()
    answer = exchange(server.port, data)
    assert time.monotonic() - began < 10
    *_, last = re.split(rb"(?=HTTP/1\.1 )", answer)
    status, headers, content = parsed(last)
    assert (status, headers["connection"], content["label"]) == (200, "close", CLASSES[1])


def test_a_kept_alive_client_of_http_1_0_gets_a_length(server: Server) -> None:
    data = request("Connection: keep-alive", line=f"POST {PATH} HTTP/1.0")
    answer = exchange(server.port, data + data.replace(b"Connection: keep-alive\r\n", b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert "content-length" in parsed(re.split(rb"(?=HTTP/1\.1 )", answer)[2])[1]


def test_413_is_received_forty_times_of_forty(server: Server) -> None:
    data = [
        request("Connection: close", body=bytes(LIMIT + 1)),
        request("Transfer-Encoding: chunked", length="", body=b"500000\r\n" + bytes(0x500000) + b"\r\n0\r\n\r\n"),
    ]
    for number in range(40):
        refused(exchange(server.port, data[number % 8 == 0]), 413, "too-large")
    status, _, content = parsed(exchange(server.port, request("Connection: close", body=bytes(LIMIT))))
    assert (status, content["error"]["rule"]) == (400, "not-an-image"), "the largest body that is allowed"


CHUNK = f"{len(IMAGE):x}\r\n".encode() + IMAGE
TWO_MEANINGS = {
    "both lengths": request("Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "both, other order": request("Transfer-Encoding: chunked", "Content-Length: 3", length="", body=b"0\r\n\r\n"),
    "two lengths": request("Content-Length: 5", body=b"abc" + SMUGGLED),
    "two codings": request("Transfer-Encoding: chunked", "Transfer-Encoding: identity", length="", body=b"0\r\n\r\n"),
    "identity, chunked": request("Transfer-Encoding: identity, chunked", length="", body=b"0\r\n\r\n"),
    "chunked, identity": request("Transfer-Encoding: chunked, identity", length="", body=b"0\r\n\r\n"),
    "another coding": request("Transfer-Encoding: gzip, chunked", length="", body=b"0\r\n\r\n"),
    "a vertical tab before the name": request("Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a vertical tab after it": request("Transfer-Encoding:\x0b chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a space before the colon": request("Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    "a plus": request(length="+5"),
    "a minus": request(length="-5"),
    "hexadecimal": request(length="0x10"),
    "a list": request(length="5, 5"),
    "a folded header": request("X-One: 1", "\tTransfer-Encoding: chunked"),
    "a null": request("X-One: \0"),
    "no Host": request().replace(b"Host: here\r\n", b""),
    "two Hosts": request("Host: there"),
    "a bare LF after a size": request("Transfer-Encoding: chunked", length="", body=CHUNK.replace(b"\r\n", b"\n", 1)),
    "a bare CR after a size": request("Transfer-Encoding: chunked", length="", body=CHUNK.replace(b"\r\n", b"\r", 1)),
    "a size that overflows": request("Transfer-Encoding: chunked", length="", body=b"f" * 17 + b"\r\n" + IMAGE),
    "a chunk longer than its size": request(
        "Transfer-Encoding: chunked", length="", body=b"5\r\nabcdefgh\r\n0\r\n\r\n"
    ),
    "HTTP/1.0 in chunks": request("Transfer-Encoding: chunked", length="", line=f"POST {PATH} HTTP/1.0", body=CHUNK),
}


@pytest.mark.parametrize("name", TWO_MEANINGS)
def test_a_request_with_two_meanings_is_refused_and_nothing_after_it_is_answered(server: Server, name: str) -> None:
    answer = exchange(server.port, TWO_MEANINGS[name] + request("Connection: close"), timeout=8)
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    refused(answer, 400, "bad-request")


@pytest.mark.parametrize("number", [1, 4])
def test_a_form_of_many_fields_is_refused_before_they_are_counted(server: Server, number: int) -> None:
    fields = "&".join(f"{field}=" for field in range(300_000)).encode()[:2_000_000]
    form = request("Content-Type: application/x-www-form-urlencoded", "Connection: close", body=fields)
    with ThreadPoolExecutor(number) as clients:
        sent = [clients.submit(exchange, server.port, form) for _ in range(number)]
        worst = 0.0
        while not all(each.done() for each in sent):
            began = time.monotonic()
            assert server.predict(IMAGE)[0] == 200
            worst = max(worst, time.monotonic() - began)
    for each in sent:
        refused(each.result(), 415, "wrong-type")
    assert worst < 3


def test_a_compressed_body_is_refused_with_the_encoding_that_is_not(server: Server) -> None:
    data = request("Content-Encoding: gzip", "Connection: close", body=gzip.compress(IMAGE))
    assert refused(exchange(server.port, data), 415, "wrong-encoding")["accept-encoding"] == "identity"
    status, _, content = parsed(exchange(server.port, request("Content-Encoding: identity", "Connection: close")))
    assert (status, content["label"]) == (200, CLASSES[1])


@pytest.mark.parametrize(
    ("line", "status", "rule", "header"),
    [
        (f"GET {PATH} HTTP/1.1", 405, "wrong-method", ("allow", "put, post")),
        ("POST /ping HTTP/1.1", 405, "wrong-method", ("allow", "get, head")),
        (f"TRACE {PATH} HTTP/1.1", 405, "wrong-method", None),
        (f"POST {PATH}/0123abcd HTTP/1.1", 404, "not-found", None),
        ("POST /predictions/another HTTP/1.1", 404, "not-found", None),
        ("GET /models HTTP/1.1", 404, "not-found", None),
        ("POST /_predict HTTP/1.1", 404, "not-found", None),
        (f"POST /_closing{PATH} HTTP/1.1", 404, "not-found", None),
        ("GET /_error/busy HTTP/1.1", 404, "not-found", None),
        ("GET /metrics HTTP/1.1", 404, "not-found", None),
        ("GET /" + "a" * 9000 + " HTTP/1.1", 431, "headers-too-large", None),
        ("GET / HTTP/9.9", 400, "bad-request", None),
    ],
)
def test_only_the_paths_and_methods_that_exist_are_answered(
    server: Server, line: str, status: int, rule: str, header: tuple[str, str] | None
) -> None:
    headers = refused(exchange(server.port, request("Connection: close", line=line)), status, rule)
    assert header is None or header in headers.items()


def test_ping_and_kserves_readiness_are_the_canary(server: Server) -> None:
    for path, wanted in (
        ("/ping", {"status": "Healthy"}),
        (f"/v1/models/{server.name}", {"name": server.name, "ready": True}),
    ):
        data = request("Connection: close", body=b"", length="", line=f"GET {path} HTTP/1.1")
        assert parsed(exchange(server.port, data))[::2] == (200, wanted)
        head = exchange(server.port, data.replace(b"GET", b"HEAD", 1))
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.endswith(b"\r\n\r\n")


def test_a_form_that_cannot_be_read_is_an_error_of_the_same_form(server: Server) -> None:
    head = b"--x\r\nContent-Disposition: form-data; name=data\r\nContent-Type: image/png; charset=none\r\n\r\n"
    part = head + b"1\r\n--x--\r\n"
    form = request("Content-Type: multipart/form-data; boundary=x", "Connection: close", body=part)
    refused(exchange(server.port, form), 400, "wrong-form")
    unknown = request("Content-Type: multipart/form-data; boundary=x; charset=none", "Connection: close", body=part)
    refused(exchange(server.port, unknown), 400, "wrong-form")
    empty = request("Content-Type: multipart/form-data; boundary=", "Connection: close", body=part)
    refused(exchange(server.port, empty), 415, "wrong-type")


def test_a_health_check_that_connects_and_resets_leaves_no_line_in_the_log(server: Server) -> None:

    def log_after(request_id: str) -> bytes:
        """The log, when it has the lines of the worker and of the door on a request that is sent now."""
        assert server.log.path is not None
        exchange(server.port, request(f"X-Request-Id: {request_id}", "Connection: close", body=IMAGE))
        deadline = time.monotonic() + 30
        while (log := server.log.path.read_bytes()).count(request_id.encode()) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return log

    before = log_after("the-request-before")
    for number in range(100):
        connection = socket.create_connection(("127.0.0.1", server.port))
        if number % 2:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        connection.close()
    added = log_after("the-request-after").removeprefix(before).splitlines()
    assert [line for line in added if b"the-request-after" not in line] == []


@pytest.mark.slow
def test_stalled_uploads_hold_nobody_up_and_end(server: Server) -> None:
    stalled = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    try:
        for connection in stalled:
            connection.sendall(request(body=bytes(100_000), length=LIMIT))
        for _ in range(20):
            began = time.monotonic()
            assert server.predict(IMAGE)[0] == 200
            assert time.monotonic() - began < 3
        for connection in stalled:
            connection.settimeout(20)
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    finally:
        for connection in stalled:
            connection.close()


@pytest.mark.slow
def test_a_header_that_trickles_is_cut_off(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=12) as connection:
        connection.sendall(b"POST /predictions")
        began = time.monotonic()
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""
        assert 4 < time.monotonic() - began < 9
