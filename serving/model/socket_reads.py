"""Lets a TorchServe worker read its socket in large pieces: TorchServe itself asks the kernel for each few bytes anew.

It travels in the model archive.
"""

import sys
from socket import socket

from ts.protocol import otf_message_handler

_PIECE = 1 << 18


class Reader:
    """Gives so many bytes of the worker's one connection; ends the worker when TorchServe has closed it."""

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0

    def __call__(self, connection: socket, length: int) -> bytes:
        """The next `length` bytes."""
        end = self._position + length
        if end > len(self._buffer):
            pieces = [self._buffer[self._position :]]
            missing = length - len(pieces[0])
            while missing > 0:
                piece = connection.recv(_PIECE)
                if not piece:
                    sys.exit(0)
                pieces.append(piece)
                missing -= len(piece)
            self._buffer, self._position, end = b"".join(pieces), 0, length
        found = self._buffer[self._position : end]
        self._position = end
        return found


def read_in_pieces() -> None:
    """Let all that the worker reads from now on be read that way."""
    otf_message_handler._retrieve_buffer = Reader()
