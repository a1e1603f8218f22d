"""The report of a verdict as a file in a real Chromium: three pages, a choice between them, nothing from elsewhere."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, expect, sync_playwright

from steps.analyse.analyse import Analysis
from steps.common.models import embedding
from tests.support import pixels
from tests.support.scene import digits, model, serve, split, verdict_on

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow]
PAGES = {"data": "Samples", "model": "The rules", "lineage": "Model card"}


@pytest.fixture
def analysis(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> Analysis:
    """What is said of a model of four digits while one of three is served, whose images it has had too."""
    monkeypatch.setattr(embedding, "Network", pixels.Pixels)

    def made(labels: str, first: int) -> str:
        return split(*digits(first, 14, labels))

    served, validation = made("012", 0), made("012", 14)
    serve(model(served, validation, served))
    train = made("0123", 0)
    return verdict_on(split(*digits(40, 12, "0123")), model(train, validation, train), min_class_images=1)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def test_the_pages_say_what_was_counted(analysis: Analysis) -> None:
    page, short = analysis.report.read_text(), analysis.short.read_text()
    lines = " ".join(page.split())
    assert analysis.data == "train 56, validation 42, gallery 56, test 48; since v1 14 images are new and 0 gone"
    assert "14 images are new, and 0 are gone. New classes: 3." in lines
    numbers = [14, 0, 14, 12, 14]  # of 3: train, validation, gallery, test, new
    cells = [f'<td class="number">{number}</td>' for number in numbers]
    assert f"<td>3</td>{''.join(cells)}" in page
    interval = analysis.verdict.interval
    assert f"<td>{interval[0]:.4f} to {interval[1]:.4f}</td>" in page
    assert f"| {interval[0]:.4f} to {interval[1]:.4f} | 48 |" in short
    assert "Since v1: 14 images are new, 0 are gone." in short
    assert page.count("To be filled in") == short.count("To be filled in") == 8
    assert not re.search(r"(src|href)=[\"'](?!data:)|url\(|@import|<script", page)


@pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_one_choice_leads_through_the_pages(analysis: Analysis, browser: Browser, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    asked: list[str] = []
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        said.append(message.text)

    page.on("request", lambda request: asked.append(request.url))
    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(str(error)))
    address = analysis.report.as_uri()
    page.goto(address)
    expect(page.get_by_role("heading", name="The rules")).to_be_visible()
    for name in PAGES:
        page.locator(f"nav label[for=to-{name}]").click()
        for other, title in PAGES.items():
            expect(page.get_by_role("heading", name=title)).to_be_visible(visible=other == name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        broken = "[...document.images].filter((image) => !image.naturalWidth).length"
        assert page.evaluate(broken) == 0
    page.keyboard.press("ArrowLeft")  # the keys choose too
    expect(page.get_by_role("heading", name="Map of the gallery")).to_be_visible()
    page.emulate_media(media="print")
    for title in PAGES.values():
        expect(page.get_by_role("heading", name=title)).to_be_visible()
    expect(page.locator("nav")).to_be_hidden()
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert said == []
    page.close()


@pytest.mark.usefixtures("volumes")
def test_without_champion_or_mistakes_and_with_one_class_the_pages_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "Network", pixels.Pixels)
    train = split(*digits(0, 4, "7"))
    analysis = verdict_on(split(*digits(20, 2, "7")), model(train, split(*digits(10, 2, "7")), train))
    page = analysis.report.read_text()
    assert "Nothing was served when this model was judged." in page
    assert "With one class there is no other to be taken for it." in page
    assert "<td>none</td>" in page
    assert "<p>None.</p>" in page
