"""Who may use the page, and what its server answers."""

import io
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contract.loop import collected
from pipeline.loop.labels import Book
from pipeline.loop.review.app import application, serve
from pipeline.loop.review.desk import Desk
from pipeline.loop.review.guard import Guard
from pipeline.loop.review.queue import Queue
from tests.support.images_to_review import VERSION, add, image, unknown
from tests.support.model_archive import CLASSES, add_thumbnails, archive, picture, png, write_model
from tests.support.review_start import Browser, deployed

HERE = "http://127.0.0.1:8090"
MAX_PIXELS = 10_000


@pytest.fixture
def store(volumes: Path) -> Path:
    return volumes / collected.FOLDER


@pytest.fixture
def guard(store: Path) -> Callable[[], Guard]:
    """Starts the page."""

    def start() -> Guard:
        book = Book("light-on-dark", MAX_PIXELS)
        return application(Desk(Queue(store, book), book, "sample", MAX_PIXELS))

    return start


class Visitor:
    """A browser that opened the page."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.client = Browser(guard, HERE)
        assert self.client.get(guard.target).status_code == 200

    def get(self, path: str) -> Any:
        return self.client.get(self.guard.path + path)

    def post(self, path: str, order: Any, **headers: str) -> Any:
        return self.client.post(self.guard.path + path, json=order, headers={"Origin": HERE, **headers})


def test_its_address_is_told_when_it_listens(guard: Callable[[], Guard], monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[str] = []

    def come(address: str) -> None:
        with socket.create_connection(("127.0.0.1", int(re.findall(r":(\d+)/", address)[0])), timeout=5):
            came.append(address)

    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)
    serve(guard(), 0, come)
    assert came


@pytest.fixture
def visitor(guard: Callable[[], Guard]) -> Visitor:
    return Visitor(guard())


def test_only_the_printed_address_opens_the_page(guard: Callable[[], Guard]) -> None:
    page = guard()
    for path in ("/", page.path, f"{page.path}?token=wrong", f"{page.path}state", f"/?token={page.token}", "/state"):
        answer = Browser(page, HERE).get(path)
        assert answer.status_code == 403, path
        assert "make review" in answer.text
    client = Browser(page, HERE)
    opened = client.get(page.target)
    assert opened.status_code == 200
    [cookie] = opened.headers.get_list("set-cookie")
    assert re.fullmatch(rf"review=[\w-]{{40,}}; Path={page.path}; HttpOnly; SameSite=Strict", cookie)
    assert page.token not in cookie
    assert client.get(page.path).status_code == 200, "the cookie is enough from now on"
    assert client.get(f"{page.path}state").status_code == 200
    assert client.get(f"{page.path}nothing").status_code == 404
    assert guard().target != page.target


def test_the_token_alone_changes_nothing(guard: Callable[[], Guard]) -> None:
    page = guard()
    client = Browser(page, HERE)
    answer = client.post(f"{page.path}decide?token={page.token}", json={}, headers={"Origin": HERE})
    assert answer.status_code == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8090", "127.0.0.1.evil.example:8090", "[::1]:8090", ""])
def test_another_name_of_the_host_is_refused(guard: Callable[[], Guard], host: str) -> None:
    page = guard()
    answer = Browser(page, HERE).get(page.target, headers={"Host": host})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:9999", "https://127.0.0.1:8090", "null", ""]
)
def test_another_page_changes_nothing(visitor: Visitor, store: Path, origin: str) -> None:
    digest = unknown(store, 1)
    answer = visitor.post("decide", {"action": "skip", "digests": [digest], "queue": "unknown"}, Origin=origin)
    assert answer.status_code == 403


def test_nothing_from_elsewhere_is_loaded(visitor: Visitor) -> None:
    for path in ("", "page.js", "page.css", "state", "nothing"):
        headers = visitor.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'")
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        assert headers["cache-control"] == "no-store"
    page = visitor.get("").text
    assert not re.search(r"https?://|<script>|style=| on\w+=", page)


@pytest.fixture
def served(volumes: Path, tmp_path: Path) -> None:
    """The small model is served, with pictures of its gallery."""
    deployed(
        volumes, archive(add_thumbnails(write_model(tmp_path / "model", VERSION)), tmp_path / "model.mar"), VERSION
    )


@pytest.mark.usefixtures("served")
def test_an_image_is_shown_with_its_neighbours(guard: Callable[[], Guard], store: Path) -> None:
    light = add(store, png(picture(2)), 1, label="unknown", reason="unknown", nearest=CLASSES[2])
    dark = add(store, png(255 - picture(1)), 2, label="unknown", reason="unknown", polarity="dark-on-light")
    visitor = Visitor(guard())
    state = visitor.get("state").json()
    assert state["queues"] == {"unknown": 2, "near": 0, "random": 0, "skipped": 0, "suspects": 0}
    assert (state["labels"], state["version"]) == (sorted(CLASSES), VERSION)
    assert state["pictures"] == {"side": 8, "columns": 3, "count": 12}
    assert visitor.get(f"sheet/{VERSION}").content[:4] == b"RIFF"
    assert [each["digest"] for each in visitor.get("next/unknown").json()] == [dark, light]
    for digest, quarter in ((light, 2), (dark, 1)):
        near = visitor.get(f"about/{digest}").json()["neighbours"]
        assert {each["label"] for each in near} == {CLASSES[quarter]}
        assert [each["distance"] for each in near] == sorted(each["distance"] for each in near)
        assert {each["index"] // 3 for each in near} == {quarter}


@pytest.mark.parametrize("kind", ["TIFF", "deep", "WEBP", "large"])
def test_a_browser_gets_a_png_of_any_image(
    visitor: Visitor, guard: Callable[[], Guard], store: Path, kind: str
) -> None:
    if kind == "deep":
        file = io.BytesIO()
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(file, "PNG")
        data = file.getvalue()
    else:
        data = png(picture(1, size=100 if kind == "large" else 8), "PNG" if kind == "large" else kind)
    digest = add(store, data, 1, label="unknown", reason="unknown")
    visitor = Visitor(guard())
    answer = visitor.get(f"picture/collected/{digest}")
    assert answer.headers["content-type"] == "image/png"
    shown = Image.open(io.BytesIO(answer.content))
    assert (shown.format, shown.getbands()) == ("PNG", ("R", "G", "B") if kind == "WEBP" else ("L",))
    assert "private" in answer.headers["cache-control"]
    small = Image.open(io.BytesIO(visitor.get(f"picture/collected/{digest}?small").content))
    assert max(small.size) <= 128


def test_hostile_images_are_not_decoded(guard: Callable[[], Guard], store: Path) -> None:
    bomb = add(store, png(np.zeros((200, 200), np.uint8)), 1, label="unknown", reason="unknown")  # past max_pixels
    page = add(store, b"<script>alert(1)</script>", 2, label="unknown", reason="unknown")
    visitor = Visitor(guard())
    for digest in (bomb, page):
        answer = visitor.get(f"picture/collected/{digest}")
        assert (answer.status_code, answer.headers["content-type"]) == (415, "application/json")
        assert visitor.get(f"about/{digest}").json() == {"neighbours": []}
    for digest in ("0" * 64, "..", "%2e%2e%2fetc"):
        assert visitor.get(f"picture/collected/{digest}").status_code in (404, 409)


def test_orders_are_done_and_taken_back(guard: Callable[[], Guard], store: Path, volumes: Path) -> None:
    digests = [unknown(store, number) for number in range(4)]
    visitor = Visitor(guard())
    order = {"action": "label", "digests": digests[:2], "label": "nine", "part": "train", "queue": "unknown"}
    lines = visitor.post("decide", order).json()
    assert [line["digest"] for line in lines] == digests[:2]
    visitor.post("decide", {"action": "not-ours", "digests": digests[2:3], "queue": "unknown"})
    visitor.post("decide", {"action": "skip", "digests": digests[3:], "queue": "unknown"})
    assert visitor.get("state").json()["queues"]["unknown"] == 0
    assert len(list((volumes / "data/images/train/nine").iterdir())) == 2
    assert visitor.post("undo", {"ids": [line["id"] for line in lines]}).json() == digests[:2]
    assert visitor.get("state").json()["queues"] == {"unknown": 2, "near": 0, "random": 0, "skipped": 1, "suspects": 0}


@pytest.mark.parametrize(
    "order",
    [
        [],
        {},
        {"digests": "x"},
        {"digests": [1]},
        {"action": "label", "digests": ["0" * 64], "label": "nine", "part": "train"},
        {"action": "label", "digests": [], "label": "nine", "part": "train"},
        {"action": "label", "digests": [str(number) for number in range(51)], "label": "nine", "part": "train"},
        {"action": "erase", "digests": ["0" * 64]},
        {"action": "label", "digests": ["../../x"], "label": "nine", "part": "test", "queue": "suspects"},
    ],
)
def test_an_order_that_makes_no_sense_is_refused(visitor: Visitor, order: Any) -> None:
    answer = visitor.post("decide", order)
    assert answer.status_code == 409
    assert answer.json()["error"]


def test_an_order_without_an_end_is_refused(visitor: Visitor) -> None:
    headers = {"Origin": HERE, "Content-Type": "application/json"}
    answer = visitor.client.post(f"{visitor.guard.path}decide", content=b" " * 70_000, headers=headers)
    assert answer.status_code == 409


def test_a_grid_has_fifty_of_one_answer(guard: Callable[[], Guard], store: Path) -> None:
    for number in range(60):
        add(store, image(number), number, random=True, distance=0.001 * number)
    visitor = Visitor(guard())
    found = visitor.get("grid?answer=upper%20left").json()
    assert len(found) == 50
    assert [each["distance"] for each in found] == sorted(each["distance"] for each in found)
    assert visitor.get("grid?answer=other").json() == []
