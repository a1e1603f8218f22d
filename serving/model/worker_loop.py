"""Patch of TorchServe's worker loop: it reads its socket through a buffer, and leaves for later what no answer needs.

TorchServe reads each number and each name by a system call and three calls of Python, and logs before it answers.
Part of the model archive.
"""

import struct
import sys
from collections.abc import Callable
from socket import socket
from typing import Any

from ts.metrics.metric_cache_abstract import MetricCacheAbstract
from ts.protocol import otf_message_handler

_BUFFER_BYTES = 1 << 18
_INTEGER = struct.Struct("!i")
_END = -1  # of a list


class Reader:
    """Reads the worker's only connection; exits when TorchServe closes it.

    Args:
        before_waiting: What to do each time before it waits for TorchServe, so after the answer to a batch is sent.
    """

    def __init__(self, before_waiting: Callable[[], None]) -> None:
        self._before_waiting = before_waiting
        self._buffer = b""
        self._position = 0

    def read(self, connection: socket, length: int) -> bytes:
        """Read exactly `length` bytes."""
        end = self._position + length
        if end > len(self._buffer):
            self._before_waiting()
            pieces = [self._buffer[self._position :]]
            missing = length - len(pieces[0])
            while missing > 0:
                piece = connection.recv(_BUFFER_BYTES)
                if not piece:
                    sys.exit(0)
                pieces.append(piece)
                missing -= len(piece)
            self._buffer, self._position, end = b"".join(pieces), 0, length
        found = self._buffer[self._position : end]
        self._position = end
        return found

    def read_batch(self, connection: socket) -> list[dict[str, Any]]:
        """Read the requests of a batch, in the form that TorchServe's service takes."""
        batch = []
        while (length := self._integer(connection)) != _END:
            request: dict[str, Any] = {"requestId": self.read(connection, length), "headers": [], "parameters": []}
            while (length := self._integer(connection)) != _END:
                name = self.read(connection, length)
                request["headers"].append({"name": name, "value": self._next(connection)})
            while (length := self._integer(connection)) != _END:
                name = self.read(connection, length)
                kind = self._next(connection)
                parameter = {"name": name.decode(), "contentType": kind.decode(), "value": self._next(connection)}
                request["parameters"].append(parameter)
            batch.append(request)
        return batch

    def _next(self, connection: socket) -> bytes:
        """The next bytes, which follow their length."""
        return self.read(connection, self._integer(connection))

    def _integer(self, connection: socket) -> int:
        end = self._position + _INTEGER.size
        if end > len(self._buffer):
            [number] = _INTEGER.unpack(self.read(connection, _INTEGER.size))
        else:
            [number] = _INTEGER.unpack_from(self._buffer, self._position)
            self._position = end
        return int(number)


def patch(before_waiting: Callable[[], None]) -> None:
    """Change this worker from now on.

    Args:
        before_waiting: What to do each time before it waits for TorchServe.
    """
    reader = Reader(before_waiting)
    otf_message_handler._retrieve_buffer = reader.read
    otf_message_handler._retrieve_inference_msg = reader.read_batch
    # A line of its log for each batch, below the level that the handler sets.
    MetricCacheAbstract.add_time = _ignored


def _ignored(*_: Any, **__: Any) -> None:
    """Nothing."""
