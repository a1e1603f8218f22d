"""The page's files and the gallery's pictures, as the door serves them: headers, methods, keys, versions."""

import io
import json
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path

import pytest
from PIL import Image

from serving.front.thumbnails import Thumbnails
from serving.log import Log
from tests.support.model_archive import NAME, add_thumbnails, archive, write_model
from tests.support.serving_start import ONE, TWO, Start, Volumes, write_version

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {
    "/": "text/html; charset=utf-8",
    "/page.css": "text/css",
    "/page.js": "text/javascript",
    "/model.json": "application/json",
    f"/thumbnails/{ONE}.json": "application/json",
    f"/thumbnails/{ONE}.webp": "image/webp",
}


def ask(start: Start, path: str, method: str = "GET", key: str = "a-key") -> tuple[int, Message, bytes]:
    """Status, headers and body."""
    connection = HTTPConnection("127.0.0.1", start.port, timeout=20)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {key}"})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    root = tmp_path_factory.mktemp("page")
    volumes = Volumes(root / "volumes")
    volumes.add(ONE, add_thumbnails(write_version(root / "one", ONE)))
    volumes.point(ONE)
    (root / "keys").write_text("a-key\n")
    with Start(volumes.root, root, SERVING_KEYS=str(root / "keys")) as started:
        started.until_ready()
        yield started


@pytest.mark.slow
def test_each_file_has_its_type_and_headers(start: Start) -> None:
    for path, kind in KINDS.items():
        status, headers, body = ask(start, f"{path}?query")
        assert (status, headers["Content-Type"], headers["X-Content-Type-Options"]) == (200, kind, "nosniff"), path
        assert headers["X-Request-Id"]
        assert body
        status, headers, body = ask(start, path, "HEAD")
        assert (status, headers["Content-Type"], body) == (200, kind, b"")
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            status, headers, body = ask(start, path, method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD"), (method, path)
            assert json.loads(body)["error"]["rule"] == "wrong-method"
    _, headers, _ = ask(start, "/")
    assert headers["Content-Security-Policy"] == POLICY
    assert headers["Permissions-Policy"] == "camera=(self), microphone=(), geolocation=()"
    assert headers["Cache-Control"] == "no-cache"
    assert json.loads(ask(start, "/model.json")[2]) == {"name": NAME}
    assert ask(start, f"/thumbnails/{ONE}.webp")[1]["Cache-Control"] == "private, max-age=86400, immutable"
    assert start.output().index(f"http://127.0.0.1:{start.port}/\n") < start.output().index("/predictions/")


@pytest.mark.slow
def test_nothing_else_of_the_folders_is_served(start: Start) -> None:
    for path in (
        *("/index.html", "/page", "/page/", "/page/page.js", "/page.html", "/nginx.conf", "/access.log"),
        *("/thumbnails", "/thumbnails/", "/thumbnails/../nginx.conf", "/thumbnails/%2e%2e/nginx.conf", "/.."),
        *(f"/thumbnails/{TWO}.json", f"/thumbnails/{ONE}.mar", f"/thumbnails/{ONE}.json/x", "/thumbnails/%00.json"),
    ):
        status, _, body = ask(start, path)
        assert status in (400, 404), path
        assert json.loads(body)["error"]["status"] == status


@pytest.mark.slow
def test_pictures_need_a_key_where_predictions_do_and_the_page_does_not(start: Start) -> None:
    for path in KINDS:
        assert ask(start, path, key="wrong")[0] == (401 if "thumbnails" in path else 200), path


@pytest.mark.slow
def test_a_switch_brings_its_pictures_and_takes_the_old_ones(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path / "volumes")
    volumes.add(ONE, add_thumbnails(write_version(tmp_path / "one", ONE)))
    volumes.add(TWO, add_thumbnails(write_version(tmp_path / "two", TWO)))
    volumes.point(ONE)
    with Start(volumes.root, tmp_path) as start:
        start.until_ready()
        image = Image.open(io.BytesIO(ask(start, f"/thumbnails/{ONE}.webp")[2]))
        assert image.size == (24, 32)
        assert ask(start, f"/thumbnails/{TWO}.webp")[0] == 404
        volumes.point(TWO)
        start.until(lambda: start.serves(TWO))
        assert ask(start, f"/thumbnails/{TWO}.webp")[0] == ask(start, f"/thumbnails/{TWO}.json")[0] == 200
        start.until(lambda: ask(start, f"/thumbnails/{ONE}.webp")[0] == 404, 30)
        assert ask(start, f"/thumbnails/{ONE}.json")[0] == 404
        volumes.add("3333cccc")  # without pictures
        volumes.point("3333cccc")
        start.until(lambda: start.serves("3333cccc"))
        assert ask(start, "/thumbnails/3333cccc.json")[0] == 404
        start.until(lambda: ask(start, f"/thumbnails/{TWO}.webp")[0] == 404, 30)


def test_an_archive_whose_pictures_cannot_be_read_has_none(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    thumbnails = Thumbnails(tmp_path, log)
    mar = archive(add_thumbnails(write_model(tmp_path / "model")), tmp_path / "x.mar")
    thumbnails.add(mar, ONE)
    assert sorted(path.name for path in (tmp_path / "thumbnails").iterdir()) == [f"{ONE}.json", f"{ONE}.webp"]
    content = mar.read_bytes()
    image = (tmp_path / "model/thumbnails.webp").read_bytes()
    mar.write_bytes(content.replace(image, image[:-1] + b"?"))
    thumbnails.remove(ONE)
    thumbnails.add(mar, ONE)
    assert list((tmp_path / "thumbnails").iterdir()) == []
    assert f"the page has no pictures of {ONE}: Bad CRC" in (tmp_path / "log").read_text()
