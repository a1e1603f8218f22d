"""Hostile requests, as the bytes sent on a connection: twenty kinds, chosen at random from a seed."""

import random
from collections.abc import Callable, Iterator

from tests.support.attack import IMAGE, LIMIT, PATH, Attack, http, image_type, noise, one
from tests.support.hostile_bodies import base64s, bombs, jsons, multipart, random_bytes, truncated
from tests.support.hostile_http import encodings, fields, methods, pipelined, request_lines, smuggling, upgrades


def no_http(chance: random.Random) -> Iterator[Attack]:
    text = chance.choice([noise(chance), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise(chance), b"\r\n" * 50])
    return one(chance.choice([text, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise(chance)]), silent=True)


def oversized(chance: random.Random) -> Iterator[Attack]:
    if chance.random() < 0.2:
        return one(http(bytes(LIMIT + 1 + chance.randrange(1000)), image_type(chance)), silent=True)
    lengths = [LIMIT + 1, 10**12, 2**31, 2**63, 2**64 + 9, 10**30, -1, "9" * 500, "0x10", "1, 2", "ten", ""]
    return one(http(IMAGE, image_type(chance), length=chance.choice(lengths)), silent=True)


def content_types(chance: random.Random) -> Iterator[Attack]:
    kinds = "text/plain text/html application/xml application/pdf video/mp4 application/x-www-form-urlencoded imagepng "
    kinds += "application/x-ndjson application/json;charset=utf-16 image application/zip a/b/c */* \xff\xfe"
    kind = chance.choice([*kinds.split(), "x" * 4000, "application/json, image/png", noise(chance, 30).hex() + "/"])
    return one(http(IMAGE, f"Content-Type: {kind}"))


def headers(chance: random.Random) -> Iterator[Attack]:
    odd = [["X-Long: " + "a" * length] for length in (9_000, 70_000, 1_000_000)] + [
        [f"X-{n}: {n}" for n in range(count)] for count in (600, 5000)
    ]
    odd += [
        ["a" * 9000 + ": 1"],
        [": empty"],
        ["no colon"],
        ["X\0Y: 1"],
        ["X Y: 1"],
        ["Content-Length: 5"],
        ["Host: \0"],
    ]
    odd += [["X-Polarity: dark"], ["X-Polarity: " + "\xff" * 2000], ["X-Polarity:"], [" folded: 1", "\tmore"]]
    odd += [
        ["Expect: 200-maybe"],
        ["Transfer-Encoding: gzip, x"],
        ["X-Request-Id: " + '\xe9"{}\x7f' * 500, "X-Polarity: 1"],
    ]
    # Some of these headers are valid, and so is the image.
    return one(http(IMAGE, *chance.choice(odd)), silent=True, statuses=(200, 400, 413, 414, 415, 417, 431))


def slow(chance: random.Random) -> Iterator[Attack]:
    whole = http(noise(chance, 200), image_type(chance), length=chance.choice([40, 500, 5000]))
    places = sorted(chance.sample(range(1, len(whole)), 12))
    pieces = [whole[i:j] for i, j in zip([0, *places], [*places, None], strict=True)]
    yield Attack("", pieces, silent=True, pause=0.1)


def paths(chance: random.Random) -> Iterator[Attack]:
    targets = [
        "/predictions",
        "/predictions/",
        "/predictions/none",
        f"{PATH}/0",
        f"{PATH}/0/1",
        "/models",
        "//",
        "*",
        "a",
    ]
    targets += [
        "/../../etc/passwd",
        f"{PATH}/%2e%2e",
        "/%",
        "/%00",
        "/%zz",
        "/\xff",
        "/v1/models/none:predict",
        "/wfpredict/a",
    ]
    targets += [
        f"{PATH}?polarity=1",
        f"{PATH}?{'a=1&' * 500}",
        "/" + "a" * 5000,
        "http://example.invalid/",
        "/invocations2",
    ]
    target = chance.choice(targets)
    method = chance.choice(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "TRACE", "CONNECT", "get", "X"])
    version = chance.choice(["HTTP/1.1"] * 5 + ["HTTP/1.0", "HTTP/9.9", "HTTP/1.", "http/1.1", "FTP/1.1", "", "\0"])
    return one(http(b"x", line=f"{method} {target} {version}"), silent=True, statuses=(200, *range(400, 500)))


def chunked(chance: random.Random) -> Iterator[Attack]:
    head = f"PUT {PATH} HTTP/1.1\r\nHost: here\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n".encode()
    sizes = [
        b"zz",
        b"-1",
        b"ffffffffffffffff",
        b"",
        b"10",
        b"7fffffff",
        b"0" * 9000,
        b"5;" + b"a" * 9000,
        b"0x5",
        b"5 5",
    ]
    bodies = [size + b"\r\n" + IMAGE + b"\r\n" for size in sizes]
    bodies += [
        b"5\r\nabcdefgh\r\n0\r\n\r\n",
        b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"1\r\n7\r\n" * 2000 + b"0\r\n\r\n",
    ]
    return one(head + chance.choice([b"", b"Content-Length: 3\r\n"]) + b"\r\n" + chance.choice(bodies), silent=True)


# The function that makes one, and a divisor of the number for slow or large kinds.
KINDS: dict[str, tuple[Callable[[random.Random], Iterator[Attack]], int]] = {
    "random bytes": (random_bytes, 1),
    "no HTTP": (no_http, 1),
    "truncated": (truncated, 1),
    "oversized": (oversized, 2),
    "bomb": (bombs, 1),
    "content type": (content_types, 1),
    "JSON": (jsons, 1),
    "base64": (base64s, 1),
    "headers": (headers, 1),
    "slow": (slow, 5),
    "multipart": (multipart, 1),
    "path": (paths, 1),
    "chunked": (chunked, 1),
    "smuggling": (smuggling, 1),
    "request line": (request_lines, 1),
    "method": (methods, 1),
    "encoding": (encodings, 1),
    "fields": (fields, 2),
    "pipelined": (pipelined, 1),
    "upgrade": (upgrades, 1),
}


def attacks(seed: int, each: int) -> list[Attack]:
    """About `each` attacks of each kind, in an order set by the seed."""
    chance = random.Random(seed)
    made = []
    for kind, (make, divisor) in KINDS.items():
        made += [attack._replace(kind=kind) for _ in range(max(each // divisor, 2)) for attack in make(chance)]
    chance.shuffle(made)
    return made
