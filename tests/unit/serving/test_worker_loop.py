"""TorchServe's worker loop as patched: a batch is read as TorchServe writes it, in whatever pieces; the log waits."""

import json
import os
import socket
import struct
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ts.protocol import otf_message_handler

from serving.model.predictor import Answer
from serving.model.telemetry import PROBE, Telemetry
from serving.model.worker_loop import Reader

PNG = bytes(range(256)) * 3


def sized(content: bytes) -> bytes:
    return struct.pack("!i", len(content)) + content


def batch(*requests: tuple[bytes, dict[bytes, bytes], dict[bytes, bytes]]) -> bytes:
    """A message of TorchServe's frontend: of each request its id, its headers, and its parameters."""
    end, message = struct.pack("!i", -1), b""
    for name, headers, parameters in requests:
        message += sized(name) + b"".join(sized(key) + sized(value) for key, value in headers.items()) + end
        message += b"".join(sized(key) + sized(b"image/png") + sized(each) for key, each in parameters.items()) + end
    return message + end


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_batch_is_read_as_torchserve_reads_it(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", "false")
    headers = {b"Content-Length": b"768", b"X-Polarity": b""}
    message = batch((b"first", headers, {b"body": PNG}), (b"second", {}, {}), (b"third", {}, {b"data": b"", b"x": PNG}))

    def read_by(read: Any) -> list[dict[str, Any]]:
        ours, theirs = socket.socketpair()
        with ours, theirs:

            def send() -> None:
                for start in range(0, len(message), piece):
                    theirs.sendall(message[start : start + piece])

            sender = Thread(target=send)
            sender.start()
            found = read(ours)
            sender.join()
        return list(found)

    found = read_by(Reader(lambda: None).read_batch)
    assert found == read_by(otf_message_handler._retrieve_inference_msg)
    assert [each["requestId"] for each in found] == [b"first", b"second", b"third"]


def test_a_worker_ends_when_torchserve_closes_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(b"half")
        theirs.close()
        with pytest.raises(SystemExit):
            Reader(lambda: None).read(ours, 5)


def test_what_waits_is_done_once_a_batch_before_the_next_is_waited_for() -> None:
    done: list[str] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = Reader(lambda: done.append("waited"))
        theirs.sendall(batch((b"1", {}, {b"body": PNG})) + batch((b"2", {}, {})))
        assert reader.read_batch(ours)
        assert reader.read_batch(ours)
        assert done == ["waited"]  # the second batch was there


def test_requests_are_logged_after_they_were_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "requests"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setenv("REQUEST_LOG", str(pipe))
    telemetry = Telemetry("1")
    answers = [Answer(200, b"", None, [("7", 0.1, ())]), Answer(400, b"", "empty"), Answer(200, b"")]
    telemetry.record(answers, [("a", "mine"), ("b", ""), ("c", "")], 0.25, ["", "", PROBE])
    telemetry.record(answers[:1], [("d", "")], 0.5, [""])
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    telemetry.log()
    telemetry.log()
    lines = [json.loads(line) for line in os.read(reading, 1 << 16).decode().splitlines()]
    os.close(reading)
    assert [(line["request_id"], line["status"], line["ms"], line["batch"]) for line in lines] == [
        ("a", 200, 250.0, 2),
        ("b", 400, 250.0, 2),
        ("d", 200, 500.0, 1),
    ]
    assert lines[0]["client_request_id"] == "mine"
    assert (lines[0]["labels"], lines[0]["distances"], lines[1]["rule"]) == (["7"], [0.1], "empty")
