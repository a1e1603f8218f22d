"""Requests that no client should send, as the bytes that go over the wire: seeded, of thirteen kinds."""

import base64
import json
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.support.hostile_images import BOMBS
from tests.support.model_archive import MAX_INSTANCES, NAME, picture, png

PATH = f"/predictions/{NAME}"
LIMIT = 4 << 20  # max_request_size
IMAGE = png(picture(1))


class Attack(NamedTuple):
    """What is sent in one connection, in pieces with a pause before each but the first.

    `statuses` is what may be answered, all 4xx if empty; `silent` if the connection may be closed without an answer.
    """

    kind: str
    pieces: list[bytes]
    silent: bool = False
    statuses: tuple[int, ...] = ()
    pause: float = 0.0


def http(body: bytes, *headers: str, line: str = f"POST {PATH} HTTP/1.1", length: object = None) -> bytes:
    """A request with the content length of its body, or whatever else is said."""
    length = len(body) if length is None else length
    lines = [line, "Host: here", "Connection: close", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def attacks(seed: int, each: int) -> list[Attack]:
    """So many of each kind, in an order that the seed decides; of the dear ones fewer."""
    chance = random.Random(seed)
    made = []
    for kind, (make, dear) in KINDS.items():
        made += [attack._replace(kind=kind) for _ in range(max(each // dear, 2)) for attack in make(chance)]
    chance.shuffle(made)
    return made


def one(*pieces: bytes, silent: bool = False, statuses: tuple[int, ...] = ()) -> Iterator[Attack]:
    yield Attack("", list(pieces), silent, statuses)


def noise(chance: random.Random, most: int = 3000) -> bytes:
    return chance.randbytes(chance.randrange(most))


def image_type(chance: random.Random) -> str:
    return "Content-Type: " + chance.choice(["image/png", "image/jpeg", "application/octet-stream", "image/x"])


def random_bytes(chance: random.Random) -> Iterator[Attack]:
    start = chance.choice(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"]
    )
    return one(http(start + noise(chance), image_type(chance)))


def no_http(chance: random.Random) -> Iterator[Attack]:
    text = chance.choice([noise(chance), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noise(chance), b"\r\n" * 50])
    return one(chance.choice([text, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise(chance)]), silent=True)


def truncated(chance: random.Random) -> Iterator[Attack]:
    cut = chance.randrange(len(IMAGE) - 12)  # Pillow can do without checksum and end after the last pixel
    if chance.random() < 0.5:
        return one(http(IMAGE[:cut], image_type(chance)), statuses=(200, 400))
    return one(http(IMAGE[:cut], image_type(chance), length=chance.choice([len(IMAGE), 10_000, LIMIT])), silent=True)


def oversized(chance: random.Random) -> Iterator[Attack]:
    if chance.random() < 0.2:
        return one(http(bytes(LIMIT + 1 + chance.randrange(1000)), image_type(chance)), silent=True)
    lengths = [LIMIT + 1, 10**12, 2**31, 2**63, 2**64 + 9, 10**30, -1, "9" * 500, "0x10", "1, 2", "ten", ""]
    return one(http(IMAGE, image_type(chance), length=chance.choice(lengths)), silent=True)


def bombs(chance: random.Random) -> Iterator[Attack]:
    bomb = chance.choice(BOMBS)
    how = chance.randrange(3)
    allowed = (200, 400, 413)  # what else it holds may be a good image
    if how == 0:
        body = json.dumps({"instances": [{"b64": base64.b64encode(bomb).decode()}] * MAX_INSTANCES}).encode()
        return one(http(body, "Content-Type: application/json"), statuses=allowed)
    return one(http(bomb, image_type(chance), *["Content-Encoding: gzip"] * (how - 1)), statuses=allowed)


def content_types(chance: random.Random) -> Iterator[Attack]:
    kinds = "text/plain text/html application/xml application/pdf video/mp4 application/x-www-form-urlencoded imagepng "
    kinds += "application/x-ndjson application/json;charset=utf-16 image application/zip a/b/c */* \xff\xfe"
    kind = chance.choice([*kinds.split(), "x" * 4000, "application/json, image/png", noise(chance, 30).hex() + "/"])
    return one(http(IMAGE, f"Content-Type: {kind}"))


def _shape(chance: random.Random, depth: int = 0) -> object:
    leaf = [None, True, -1, 1e308, 10**40, "", "instances", "\x00", "b64", "a" * 300, "é\ud800"]
    if depth > 3 or chance.random() < 0.4:
        return chance.choice(leaf)
    if chance.random() < 0.4:
        return [_shape(chance, depth + 1) for _ in range(chance.randrange(4))]
    keys = ["instances", "b64", "polarity", "__proto__", "", "image_bytes", "data"]
    return {chance.choice(keys): _shape(chance, depth + 1) for _ in range(chance.randrange(4))}


JSONS = [
    *(b"[" * n for n in (30, 45, 5000, 200_000)),
    *(b'{"instances":' * n for n in (40, 900, 50_000)),
    *(
        b'{"instances": ' + text + b"}"
        for text in (b"NaN", b"-Infinity", b"1e999", b"1" * 5000, b"1" * 100_000, b"-", b"01")
    ),
    b'{"instances": [{"b64": NaN}]}',
    b'{"instances": [{"b64": ' + b"9" * 4400 + b"}]}",
    json.dumps({"instances": [{"b64": ""}] * 100_000}).encode(),
    json.dumps({"instances": [[0.5] * 28] * 28}).encode(),
    json.dumps(list(range(100_000))).encode(),
    json.dumps({str(n): n for n in range(20_000)}).encode(),
    b'{"instances": [{"b64": "' + b"A" * (9 << 20) + b'"}]}',
    b'{"instances": [{"b64": "',
    b'{"instances": []}',
    b'{"instances": [{}], "instances": [{}]}',
    b"",
    b" ",
    b"\0",
    b"\xef\xbb\xbf" + b'{"instances": [{"b64": "iVBORw0KGgo="}]}',
    b'{"instances": [{"b64": "\xff\xfe"}]}',
    b'{"\\ud800": 1}',
    b'{"instances": [{"b64": "\\udfff"}]}',
    '{"instances": [{"b64": ""}]}'.encode("utf-16"),
    '{"instances": [{"b64": ""}]}'.encode("utf-32"),
]


def jsons(chance: random.Random) -> Iterator[Attack]:
    shape = json.dumps(_shape(chance), ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")
    wrapped = b'{"instances": [{"b64": ' + shape + b"}]}"
    body = chance.choice([chance.choice(JSONS), shape, wrapped, b'{"instances": ' + shape + b"}", noise(chance, 100)])
    kind = chance.choice(["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"])
    return one(http(body, f"Content-Type: {kind}"))


def base64s(chance: random.Random) -> Iterator[Attack]:
    good = base64.b64encode(IMAGE).decode()
    at = chance.randrange(4, len(good) - 4)
    bad = [good[:at] + sign + good[at:] for sign in ("=", "\n", " ", "-", "_", "é", "%3D", "\0", "====", "\u2028")]
    bad += [
        good[: at // 4 * 4 + 1],
        good + "=",
        "=" + good,
        good.replace("=", "") + "A",
        "data:image/png;base64," + good,
    ]
    instances = [{"b64": good}] * chance.randrange(MAX_INSTANCES) + [{"b64": chance.choice(bad)}]
    return one(http(json.dumps({"instances": instances}).encode(), "Content-Type: application/json"))


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
    # Several of them are no more than odd, and the image is a good one.
    return one(http(IMAGE, *chance.choice(odd)), silent=True, statuses=(200, 400, 413, 414, 415, 417, 431))


def slow(chance: random.Random) -> Iterator[Attack]:
    whole = http(noise(chance, 200), image_type(chance), length=chance.choice([40, 500, 5000]))
    places = sorted(chance.sample(range(1, len(whole)), 12))
    pieces = [whole[i:j] for i, j in zip([0, *places], [*places, None], strict=True)]
    yield Attack("", pieces, silent=True, pause=0.1)


def _part(head: str, body: bytes, boundary: str = "x", end: str = "--x--\r\n") -> bytes:
    return f"--{boundary}\r\n{head}\r\n\r\n".encode("latin-1") + body + b"\r\n" + end.encode()


def multipart(chance: random.Random) -> Iterator[Attack]:
    data = "Content-Disposition: form-data; name=data; filename=a.png"
    nested = "Content-Disposition: form-data; name=data\r\nContent-Type: multipart/mixed; boundary=y"
    bodies = [
        b"",
        b"--x--\r\n",
        b"--x\r\n",
        _part(data, IMAGE, "y"),
        _part("", IMAGE),
        noise(chance),
        _part(data, b""),
        _part("Content-Disposition: form-data", IMAGE),
        _part("X: " + "y" * 20_000, IMAGE),
        _part("Content-Disposition: form-data; name=\xe9\xff\0", IMAGE),
        _part(data.replace("data;", "other;"), IMAGE),
        _part(data.replace("data;", f"{'n' * 5000};"), IMAGE),
        _part(data, bytes(1 << 20)),
        _part("junk", IMAGE),
        _part(data + "\r\nContent-Transfer-Encoding: base64", b"?"),
        _part(nested, _part(data, IMAGE, "y", "--y--")),
        _part(data + "\r\nContent-Type: text/plain; charset=none", b"1"),
        b"--x\r\n" * 5000,
        _part(data + "\r\nContent-Length: 999999999999", b"1"),
        _part("Content-Disposition: " + ";" * 3000, b"1"),
        b"".join(_part(f"Content-Disposition: form-data; name=f{n}", b"1", end="") for n in range(500)) + b"--x--\r\n",
    ]
    kinds = ["multipart/form-data; boundary=x"] * 4
    kinds += [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="',
        "multipart/mixed",
    ]
    kinds += [
        "multipart/form-data; boundary=" + "b" * 2000,
        "multipart/form-data; boundary=x; charset=none",
        "multipart/",
    ]
    body, kind = chance.choice(bodies), chance.choice(kinds)
    if chance.random() < 0.2:
        body = _part(data, IMAGE)[: -chance.randrange(12, 90)]  # without its end
    return one(http(body, f"Content-Type: {kind}"), statuses=(200, 400, 403, 413, 415))


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


# With how many times fewer of them there are.
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
}
