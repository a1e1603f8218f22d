"""Hostile bodies in well-formed HTTP: damaged images, bombs, malformed JSON, base64 and forms."""

import base64
import json
import random
from collections.abc import Iterator

from tests.support.attack import IMAGE, LIMIT, Attack, http, image_type, noise, one
from tests.support.hostile_images import BOMBS
from tests.support.model_archive import MAX_INSTANCES


def random_bytes(chance: random.Random) -> Iterator[Attack]:
    start = chance.choice(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"RIFF\0\0\0\0WEBP"]
    )
    return one(http(start + noise(chance), image_type(chance)))


def truncated(chance: random.Random) -> Iterator[Attack]:
    cut = chance.randrange(len(IMAGE) - 12)  # Pillow reads all pixels without the last 12 bytes
    if chance.random() < 0.5:
        return one(http(IMAGE[:cut], image_type(chance)), statuses=(200, 400))
    return one(http(IMAGE[:cut], image_type(chance), length=chance.choice([len(IMAGE), 10_000, LIMIT])), silent=True)


def bombs(chance: random.Random) -> Iterator[Attack]:
    bomb = chance.choice(BOMBS)
    how = chance.randrange(3)
    allowed = (200, 400, 413)  # some bombs hold a valid image, too
    if how == 0:
        body = json.dumps({"instances": [{"b64": base64.b64encode(bomb).decode()}] * MAX_INSTANCES}).encode()
        return one(http(body, "Content-Type: application/json"), statuses=allowed)
    encoding = ["Content-Encoding: gzip"] * (how - 1)
    return one(http(bomb, image_type(chance), *encoding), statuses=(415,) if encoding else allowed)


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
        body = _part(data, IMAGE)[: -chance.randrange(12, 90)]  # cut off
    return one(http(body, f"Content-Type: {kind}"), statuses=(200, 400, 403, 413, 415))
