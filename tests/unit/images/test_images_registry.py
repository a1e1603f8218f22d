"""The client of a registry, against a small registry on the loopback address."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.images.registry import Registry, RegistryError
from tests.support.in_thread import answering


class Server(ThreadingHTTPServer):
    """Has `images`; authenticates a `user`, by basic authentication or tokens; or answers everything with `status`."""

    status: int | None = None
    user: str | None = None
    tokens = False
    images: tuple[str, ...] = ()


class _Answers(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        server, name = self.server, self.path.removeprefix("/v2/").replace("/manifests/", ":")
        wanted = f"Bearer token-for-{name.rpartition(':')[0]}" if server.tokens else f"Basic {server.user}"
        if server.status is not None:
            self.send_response(server.status)
        elif (server.user or server.tokens) and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            host, port = server.server_address[:2]
            scope = (
                f'realm="http://{host!s}:{port}/token",service="here",scope="repository:{name.rpartition(":")[0]}:pull"'
            )
            self.send_header("WWW-Authenticate", f"Bearer {scope}" if server.tokens else 'Basic realm="here"')
        else:
            self.send_response(200 if name in server.images else 404)
        self.end_headers()

    def do_GET(self) -> None:
        allowed = self.server.user is None or self.headers.get("Authorization") == f"Basic {self.server.user}"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        repository = self.path.partition("repository%3A")[2].partition("%3Apull")[0].replace("%2F", "/")
        self.wfile.write(json.dumps({"token": f"token-for-{repository}"} if allowed else {}).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    server = Server(("127.0.0.1", 0), _Answers)
    with answering(server):
        yield server


def registry(server: Server) -> tuple[Registry, str]:
    prefix = f"127.0.0.1:{server.server_address[1]}/folder"
    return Registry(prefix, backoff=0.01), prefix


def log_in(server: Server, folder: Path) -> None:
    server.user = base64.b64encode(b"me:secret").decode()
    host = f"127.0.0.1:{server.server_address[1]}"
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": server.user}}}))


def test_has_is_true_for_an_image_with_this_tag_only(server: Server) -> None:
    asked, prefix = registry(server)
    server.images = ("folder/digits-train:0123",)
    assert asked.has(f"{prefix}/digits-train:0123")
    assert not asked.has(f"{prefix}/digits-train:4567")
    assert not asked.has(f"{prefix}/digits-embed:0123")


@pytest.mark.parametrize("tokens", [False, True])
def test_dockers_login_is_used(server: Server, tmp_path: Path, tokens: bool) -> None:
    log_in(server, tmp_path)
    server.tokens = tokens
    server.images = ("folder/digits-train:0123", "folder/digits-embed:0123")
    asked, prefix = registry(server)
    assert asked.has(f"{prefix}/digits-train:0123")
    assert asked.has(f"{prefix}/digits-embed:0123")  # a token is for one repository
    assert not asked.has(f"{prefix}/digits-embed:4567")


def test_a_public_registry_needs_a_token_and_no_login(server: Server) -> None:
    server.tokens, server.images = True, ("folder/digits-train:0123",)
    asked, prefix = registry(server)
    assert asked.has(f"{prefix}/digits-train:0123")


@pytest.mark.parametrize("tokens", [False, True])
def test_without_a_login_the_error_says_how_to_log_in(server: Server, tokens: bool) -> None:
    server.user, server.tokens = "c29tZW9uZTplbHNl", tokens
    asked, prefix = registry(server)
    with pytest.raises(RegistryError, match="docker login 127.0.0.1"):
        asked.has(f"{prefix}/digits-train:0123")


def test_a_registry_that_fails_is_an_error(server: Server) -> None:
    server.status = 503
    asked, prefix = registry(server)
    with pytest.raises(RegistryError, match="status 503"):
        asked.has(f"{prefix}/digits-train:0123")


def test_a_registry_that_is_down_is_named() -> None:
    with pytest.raises(RegistryError, match="the registry 127.0.0.1:9 does not answer"):
        Registry("127.0.0.1:9", backoff=0.01).has("127.0.0.1:9/digits-train:0123")
