"""Patch of TorchServe's worker: buffered reads of its socket, in place of one system call for each few bytes.

Part of the model archive.
"""

import sys
from socket import socket

from ts.protocol import otf_message_handler

_BUFFER_BYTES = 1 << 18


class BufferedReader:
    """Replaces TorchServe's function that reads from the worker's only connection; exits when TorchServe closes it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0

    def __call__(self, connection: socket, length: int) -> bytes:
        """Read exactly `length` bytes."""
        end = self._position + length
        if end > len(self._buffer):
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


def patch_worker() -> None:
    """Use buffered reads in this worker from now on."""
    otf_message_handler._retrieve_buffer = BufferedReader()
