"""One unencrypted gRPC call, in HTTP/2 frames (RFC 9113)."""

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _GOAWAY = 0, 1, 4, 7
_END_STREAM, _END_HEADERS = 1, 4


def call(port: int, method: str, message: bytes = b"") -> bytes:
    """The data answered; empty if the server has no such method."""
    headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "localhost", "te": "trailers"}
    block = b"".join(_literal(*each) for each in (headers | {"content-type": "application/grpc"}).items())
    data = struct.pack(">BI", 0, len(message)) + message
    asked = _frame(_HEADERS, _END_HEADERS, block) + _frame(_DATA, _END_STREAM, data)
    answered = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, connection.makefile("rb") as stream:
        connection.sendall(_PREFACE + _frame(_SETTINGS, 0, b"", stream=0) + asked)
        while head := stream.read(9):
            kind, flags = head[3], head[4]
            payload = stream.read(int.from_bytes(head[:3]))
            answered += payload if kind == _DATA else b""
            if kind == _GOAWAY or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
                break
    return answered


def _frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header in HPACK (RFC 7541): a literal without indexing."""
    return b"\0" + b"".join(len(each).to_bytes(1) + each.encode() for each in (name, value))
