"""The page at / in a real Chromium: images are drawn, chosen, dropped, pasted, photographed; answers are shown."""

import base64
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, expect, sync_playwright

from contract.paths import ROOT
from tests.support.model_archive import CLASSES, picture, png
from tests.support.pipeline_run import QUICK, last_line, run
from tests.support.serving_start import ONE, Start, deployed

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")]
SEVEN = (ROOT / "samples/7.png").read_bytes()
STROKES = [(0.28, 0.25), (0.72, 0.25), (0.45, 0.8)]  # of a 7, as parts of the paper
TRANSFER = """([kind, bytes, name]) => {
    const transfer = new DataTransfer();
    const content = Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0));
    transfer.items.add(new File([content], name, { type: kind }));
    return transfer;
}"""


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes with a deployed model of digits."""
    folder = tmp_path_factory.mktemp("digits") / "volumes"
    assert last_line(run(folder, {**QUICK, "train": {"epochs": 8}})).startswith("DEPLOYED ")
    return folder


@pytest.fixture(scope="module")
def start(volumes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    with Start(volumes, tmp_path_factory.mktemp("serving")) as started:
        yield started.until_ready()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Visit:
    """A page, what it asked for, and the errors and warnings of its console."""

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def open(self, url: str) -> Page:
        self.page.goto(url)
        return self.page


def address(start: Start) -> str:
    return f"http://127.0.0.1:{start.port}/"


@pytest.fixture
def visit(browser: Browser, start: Start) -> Iterator[Visit]:
    """A visit in which nobody else is asked, and the console stays empty."""
    visit = Visit(browser)
    visit.open(address(start))
    yield visit
    assert [url for url in visit.asked if not url.startswith((address(start), "data:", "blob:"))] == []
    assert visit.said == []
    visit.context.close()


def places(page: Page) -> list[tuple[float, float]]:
    """The corners of the 7 on the screen."""
    box = page.locator("#paper").bounding_box()
    assert box
    return [(box["x"] + right * box["width"], box["y"] + down * box["height"]) for right, down in STROKES]


def draw(page: Page) -> None:
    first, *others = places(page)
    page.mouse.move(*first)
    page.mouse.down()
    for place in others:
        page.mouse.move(*place, steps=12)
    page.mouse.up()


def expect_answer(page: Page, label: str) -> None:
    expect(page.locator("#status")).to_have_text("Answered.", timeout=20_000)
    expect(page.locator("#label")).to_have_text(label)


def test_a_7_that_is_drawn_is_read_as_7(visit: Visit, start: Start, volumes: Path) -> None:
    page = visit.page
    pointer = json.loads((volumes / "deploy-model/current.json").read_text())
    expect(page.locator("#name")).to_have_text(pointer["name"])
    draw(page)
    expect_answer(page, "7")
    assert re.fullmatch(r"0\.\d{4}", page.locator("#distance").inner_text())
    assert page.locator("#version").inner_text() == pointer["version"]
    pictures = page.locator("#neighbours li canvas")
    assert pictures.count() == page.locator("#neighbours li").count() == 5
    lightness = "(each) => [...each.getContext('2d').getImageData(0, 0, each.width, each.height).data].slice(0, -1)"
    for number in range(5):  # each shows a light digit on a dark ground
        pixels = pictures.nth(number).evaluate(lightness)[::4]
        assert min(pixels) < 40
        assert max(pixels) > 200
    assert sum("/thumbnails/" in url for url in visit.asked) == 2
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#result")).to_be_hidden()
    draw(page)
    expect_answer(page, "7")
    assert sum("/thumbnails/" in url for url in visit.asked) == 2, "pictures are loaded once"


def test_the_keyboard_alone_draws(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("Tab")
    expect(page.locator("#paper")).to_be_focused()
    for keys in (["ArrowLeft"] * 6 + ["ArrowUp"] * 7, ["Space"], ["ArrowRight"] * 12):
        for key in keys:
            page.keyboard.press(key)
    for number in range(15):
        page.keyboard.press("ArrowDown")
        if number % 2:
            page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect_answer(page, "7")
    tabbed = []
    for _ in range(4):
        page.keyboard.press("Tab")
        tabbed.append(page.evaluate("document.activeElement.id"))
    assert tabbed == ["clear", "file", "camera", "dark"]


def test_a_finger_draws_on_a_phone(browser: Browser, start: Start) -> None:
    visit = Visit(browser, viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True)
    page = visit.open(address(start))
    session = visit.context.new_cdp_session(page)
    first, *others = places(page)
    touches = [("touchStart", first)]
    for before, after in zip([first, *others], others, strict=False):
        steps = [
            (before[0] + (after[0] - before[0]) * n / 10, before[1] + (after[1] - before[1]) * n / 10)
            for n in range(1, 11)
        ]
        touches += [("touchMove", step) for step in steps]
    for kind, (x, y) in touches:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect_answer(page, "7")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate("scrollY") == 0, "drawing does not scroll"
    assert visit.said == []
    visit.context.close()


def choose(page: Page) -> None:
    page.set_input_files("#file", {"name": "7.png", "mimeType": "image/png", "buffer": SEVEN})


def transfer(page: Page, content: bytes = SEVEN, kind: str = "image/png") -> Any:
    return page.evaluate_handle(TRANSFER, [kind, base64.b64encode(content).decode(), "7.png"])


def drop(page: Page) -> None:
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer(page)})


def paste(page: Page) -> None:
    page.evaluate(
        "(data) => document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))",
        transfer(page),
    )


@pytest.mark.parametrize("give", [choose, drop, paste])
def test_a_file_is_chosen_dropped_or_pasted(visit: Visit, give: Callable[[Page], None]) -> None:
    page = visit.page
    give(page)
    expect_answer(page, "7")
    expect(page.locator("#picture")).to_be_visible()
    assert not page.locator("#dark").is_checked(), "the sample is light on dark"


def test_the_camera_takes_a_picture(visit: Visit) -> None:
    page = visit.page
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator("#status")).to_have_text("Answered.", timeout=20_000)
    assert page.locator("#label").inner_text()
    expect(page.locator("#film")).to_be_hidden()


def test_errors_are_shown(browser: Browser, start: Start) -> None:
    visit = Visit(browser)
    page = visit.open(address(start))
    status = page.locator("#status.error")
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no image"})
    expect(status).to_contain_text("Error 400: ")
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer(page, b"text", "text/plain")})
    expect(status).to_have_text("That is no image file.")
    visit.context.route("**/predictions/*", lambda route: route.abort())
    page.get_by_role("button", name="Clear").click()
    draw(page)
    expect(status).to_contain_text("The server cannot be reached")
    visit.context.unroute("**/predictions/*")
    draw(page)
    expect_answer(page, "7")
    assert "Content Security Policy" not in " ".join(visit.said)
    visit.context.close()


def test_behind_a_path_and_with_a_key_and_without_pictures(browser: Browser, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a key that opens\n")
    with Start(deployed(tmp_path / "volumes").root, tmp_path, SERVING_KEYS=str(keys)) as start:
        start.until_ready()
        visit = Visit(browser)
        outside = "http://127.0.0.1:9/teams/digits/"

        def forward(route: Route) -> None:
            assert route.request.url.startswith(outside)
            route.fulfill(response=route.fetch(url=address(start) + route.request.url.removeprefix(outside)))

        visit.context.route("**/*", forward)
        page = visit.open(outside)
        image = {"name": "x.png", "mimeType": "image/png", "buffer": png(picture(2, size=64))}
        page.set_input_files("#file", image)
        expect(page.locator("#status.error")).to_contain_text("Error 401: ")
        page.get_by_label("This server asks for a key").fill("a key that opens")
        page.keyboard.press("Enter")
        expect_answer(page, CLASSES[2])
        expect(page.locator("#locked")).to_be_hidden()
        assert page.locator("#version").inner_text() == ONE
        assert page.locator("#neighbours li").count() == 3
        assert page.locator("#neighbours canvas").count() == 0
        assert [url for url in visit.asked if not url.startswith((outside, "data:", "blob:"))] == []
        visit.context.close()
