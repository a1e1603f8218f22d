"""What the door can do besides, off by default: API keys, TLS, a rate for each key or address, CORS."""

import os
import re
import ssl
import subprocess
import sys
import time
from collections import Counter
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from serving.front.configuration import AddressError, fill_in
from serving.front.keys import Keys
from serving.front.options import OptionError, Options
from serving.log import Log
from serving.server import Server
from tests.support.model_archive import CLASSES, NAME, ROOT, archive, picture, png, write_model

IMAGE = png(picture(1))
ORIGIN = "https://pages.example"


@pytest.fixture(scope="module")
def mar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(write_model(tmp_path_factory.mktemp("model")), tmp_path_factory.mktemp("store") / "model.mar")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text("# one a client\n\nfirst-key\n  second-key \n")
    return path


def ask(connection: HTTPConnection, method: str = "PUT", path: str = f"/predictions/{NAME}", **headers: str) -> Any:
    """Status, headers and body."""
    connection.request(method, path, IMAGE, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return response.status, response.headers, response.read().decode()


@pytest.mark.slow
def test_keys_and_origins(mar: Path, keys: Path, tmp_path: Path) -> None:
    options = Options(keys=keys, origins=(ORIGIN, "http://localhost:3000"))
    with Server(mar, NAME, log=Log(tmp_path / "log"), options=options) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
        for wrong in ("", "Bearer ", "Bearer wrong", "Bearer first-ke", "first-key", "Basic first-key", "Bearer \xff"):
            status, headers, body = ask(connection, Authorization=wrong)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer"), wrong
            assert '"rule": "wrong-key"' in body
        assert ask(connection)[0] == 401
        assert ask(connection, "POST", Transfer_Encoding="chunked")[0] in (400, 401)
        connection.close()  # an image is no chunk, so the door closes it at any time
        for right in ("Bearer first-key", "bearer second-key"):
            status, _, body = ask(connection, Authorization=right)
            assert status == 200
            assert CLASSES[1] in body
        assert ask(connection, "GET", "/ping")[0] == 200, "health checks need no key"
        keys.write_text("third-key\n")
        assert ask(connection, Authorization="Bearer first-key")[0] == 401
        assert ask(connection, Authorization="Bearer third-key")[0] == 200
        keys.unlink()
        assert ask(connection, Authorization="Bearer third-key")[0] == 401

        status, headers, _ = ask(connection, "OPTIONS", Origin=ORIGIN, Access_Control_Request_Method="PUT")
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Origin" not in ask(connection, "OPTIONS", Origin="https://other.example")[1]
        keys.write_text("key\n")
        for path, wanted in ((f"/predictions/{NAME}", 200), ("/nothing", 404)):
            status, headers, _ = ask(connection, path=path, Authorization="Bearer key", Origin=ORIGIN)
            assert (status, headers["Access-Control-Allow-Origin"]) == (wanted, ORIGIN), "errors can be read, too"
        assert "X-Request-Id" in headers["Access-Control-Expose-Headers"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    folder.mkdir()
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs openssl, to make a certificate")
    return folder


@pytest.mark.slow
def test_tls_and_a_rate(mar: Path, certificate: Path, tmp_path: Path) -> None:
    with Server(mar, NAME, log=Log(tmp_path / "log"), options=Options(tls=certificate, rate=5)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=certificate / "tls.crt")
        connection = HTTPSConnection("127.0.0.1", server.port, timeout=20, context=context)
        assert ask(connection)[0] == 200
        plain = HTTPConnection("127.0.0.1", server.port, timeout=20)
        assert ask(plain)[0] == 400
        probe = [sys.executable, "-m", "serving", "probe", "--port", str(server.port)]
        environment = {**os.environ, "SERVING_TLS": str(certificate)}
        assert subprocess.run(probe, cwd=ROOT, env=environment, check=False, capture_output=True).returncode == 0
        found: Counter[int] = Counter()
        began = time.monotonic()
        while found[429] < 10 and time.monotonic() - began < 20:
            status, headers, body = ask(connection)
            found[status] += 1
        assert set(found) == {200, 429}
        assert found[200] < 10 + 6 * (time.monotonic() - began)
        assert '"rule": "too-many"' in body
        assert headers["Retry-After"] == "1"
        time.sleep(1.2)
        assert ask(connection)[0] == 200


def test_keys_are_those_in_the_file_now(keys: Path) -> None:
    known = Keys(keys)
    assert known.allow("Bearer first-key")
    assert known.allow("BEARER second-key")
    for wrong in ("", "Bearer", "Bearer ", "Bearer # one a client", "Bearer first-key second-key", "first-key", "é"):
        assert not known.allow(wrong)
    keys.write_bytes(b"\xff\xfe\n")
    assert not known.allow("Bearer first-key")
    assert known.allow("Bearer \xff\xfe")
    keys.unlink()
    assert not known.allow("Bearer \xff\xfe")


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=f"the file {tmp_path}/none for keys does not exist"):
        Options(keys=tmp_path / "none")
    with pytest.raises(OptionError, match=f"the file {tmp_path}/tls.key for TLS does not exist"):
        Options(tls=tmp_path)
    for origin in ("*", "example.org", "https://example.org/", 'https://a";', "https://a b"):
        with pytest.raises(OptionError, match="is no web origin: give one such as"):
            Options(origins=(origin,))
    (tmp_path / "a;b").mkdir()
    (tmp_path / "a;b" / "tls.key").touch()
    with pytest.raises(AddressError, match="characters that nginx.conf cannot hold"):
        Options(tls=tmp_path / "a;b").lines()


def test_options_are_off_by_default() -> None:
    assert Options().lines() == {}
    text = fill_in({})
    for directive in ("auth_request", "limit_req_zone", "ssl_certificate", "Access-Control-Allow-Origin"):
        assert directive not in text
    assert re.findall(r"@[A-Z_]+@", text) == []
