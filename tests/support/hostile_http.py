"""Hostile requests whose HTTP is what is wrong with them: two lengths, odd lines, methods, encodings, connections."""

import gzip
import random
import zlib
from collections.abc import Iterator

from tests.support.attack import IMAGE, PATH, Attack, http, image_type, noise, one

CODINGS = [
    *("chunked", " chunked", "\tchunked", "\x0bchunked", "chunked\x0b", "CHUNKED", "xchunked", "chunked, chunked", ""),
    *("identity, chunked", "chunked, identity", "gzip, chunked", "chunked;q=1", '"chunked"', "identity"),
]
NAMES = ["Transfer-Encoding", "Transfer-Encoding ", "Transfer_Encoding", "transfer-encoding", "\x0bTransfer-Encoding"]
LINES = [
    *(f"POST  {PATH} HTTP/1.1", f"POST {PATH}  HTTP/1.1", f"POST {PATH}", f"POST {PATH} ", f" POST {PATH} HTTP/1.1"),
    *(f"POST\t{PATH}\tHTTP/1.1", f"POST {PATH} HTTP/1.1 HTTP/1.1", f"POST {PATH} HTTP/01.1", f"POST {PATH} HTTP/1.01"),
    *(f"POST http://here{PATH} HTTP/1.1", f"POST http:{PATH} HTTP/1.1", f"POST {PATH}#x HTTP/1.1", "POST * HTTP/1.1"),
    *(f"POST {PATH} HTTP/2.0", f"POST {PATH} HTTP/3", f"P\xd6ST {PATH} HTTP/1.1", f"POST {PATH}\0 HTTP/1.1", "POST"),
]
METHODS = ["GET", "HEAD", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MKCOL", "LOCK", "post", "FOO"]
ENCODINGS = ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip", "x-gzip", "GZIP", "*", "\xff"]
UPGRADES = [
    ["Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"],
    ["Connection: upgrade"],
    ["Connection: upgrade", "Range: bytes=0-,0-,0-"],
    ["Connection: upgrade, TE", "TE: trailers", "Max-Forwards: 0"],
]


def smuggling(chance: random.Random) -> Iterator[Attack]:
    """A request that can be read as two."""
    second = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\nx"
    header = f"{chance.choice(NAMES)}:{chance.choice(['', ' ', '  '])}{chance.choice(CODINGS)}"
    # Some of these names mean nothing, and then the request is an ordinary one with a bad image.
    return one(http(b"0\r\n\r\n" + second, header), silent=True, statuses=(400,))


def request_lines(chance: random.Random) -> Iterator[Attack]:
    return one(http(b"x", line=chance.choice(LINES)), silent=True)


def methods(chance: random.Random) -> Iterator[Attack]:
    return one(http(noise(chance, 50), line=f"{chance.choice(METHODS)} {PATH} HTTP/1.1"))


def encodings(chance: random.Random) -> Iterator[Attack]:
    bodies = [gzip.compress(IMAGE), zlib.compress(IMAGE), IMAGE, gzip.compress(bytes(1 << 20)), noise(chance)]
    encoding = f"Content-Encoding: {chance.choice(ENCODINGS)}"
    return one(http(chance.choice(bodies), image_type(chance), encoding), statuses=(415,))


def fields(chance: random.Random) -> Iterator[Attack]:
    field = chance.choice(["a=", "=", "a[]=1", "%zz=", "data=x", "\xff=", "a=1;b=2"])
    body = "&".join([field] * chance.randrange(1, 50_000)).encode("latin-1")
    kind = chance.choice(["", "; charset=utf-8", ";", " ; boundary=x"])
    return one(http(body, f"Content-Type: application/x-www-form-urlencoded{kind}"), statuses=(415,))


def pipelined(chance: random.Random) -> Iterator[Attack]:
    """A request that is answered, and then what is none, or a second that the client does not wait for."""
    good = http(IMAGE).replace(b"Connection: close\r\n", b"")
    rest = chance.choice([noise(chance), b"\r\n\r\n\0", good[:-5], b"GET\r\n\r\n", http(b"x", length=-1)])
    return one(good + rest, statuses=(200,))


def upgrades(chance: random.Random) -> Iterator[Attack]:
    wanted = chance.choice(["h2c", "websocket", "TLS/1.0", "HTTP/2.0", "\xff", ""])
    return one(http(b"no image", f"Upgrade: {wanted}", *chance.choice(UPGRADES)), statuses=(400,))
