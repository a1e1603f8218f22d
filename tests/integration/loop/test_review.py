"""`make review` in a real Chromium: labels by keyboard alone, at desktop and phone width, and while a run reads."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, Page, expect

from contract.loop import collected
from contract.loop.labels import labels_path
from steps.common.usage import shared
from tests.support.images_to_review import VERSION, add, image, unknown
from tests.support.model_archive import CLASSES, add_thumbnails, archive, write_model
from tests.support.review_start import Review, deployed
from tests.support.visit import CHROMIUM, Visit

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")]
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 320, "height": 640}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def store(volumes: Path, tmp_path: Path) -> Path:
    """A store of collected images, and a served model."""
    deployed(
        volumes, archive(add_thumbnails(write_model(tmp_path / "model", VERSION)), tmp_path / "model.mar"), VERSION
    )
    return volumes / collected.FOLDER


def labels(volumes: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in labels_path(volumes / "data").read_text().splitlines()]


def files(volumes: Path) -> list[str]:
    root = volumes / "data/images"
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))


def choices(page: Page) -> list[str]:
    return page.locator("#choices button").all_inner_texts()


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_keyboard_alone_labels(browser: Browser, volumes: Path, store: Path, options: dict[str, Any]) -> None:
    digests = [unknown(store, number) for number in (0, 1, 2, 3, 6)][::-1]  # the newest is shown first
    with Review(volumes) as review:
        assert "5 unknown, 0 near" in review.said[0]
        here = review.address.partition("?")[0]
        visit = Visit(browser, review.address, **options)
        page = visit.page
        assert page.url == here, "the token does not stay in the address"
        expect(page.locator("#said")).to_contain_text("The server said unknown")
        expect(page.locator("#neighbours canvas")).to_have_count(3)
        assert page.locator("#picture").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 8
        assert choices(page)[0] == f"1 {CLASSES[6 % 4]}"
        visit.press("1")  # the label of the neighbours
        expect(page.locator("#status")).to_contain_text(f"{CLASSES[2]}: 1")
        page.keyboard.type("nine")
        expect(page.locator("#label")).to_have_value("nine")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("is a new label")
        visit.press("Enter")
        assert "nine" in choices(page)[1], "a label that was used is offered"
        visit.press("s", "x")
        expect(page.locator("#lists button").nth(0)).to_have_text("Unknown 1")
        expect(page.locator("#lists button").nth(4)).to_have_text("Skipped 1")
        visit.press("u")
        expect(page.locator("#status")).to_have_text("Taken back: 1.")
        page.keyboard.press("/")
        page.keyboard.type("lower le")
        page.keyboard.press("Escape")
        expect(page.locator("#label")).to_have_value("")
        page.keyboard.press("/")
        page.keyboard.type(CLASSES[2])
        visit.press("Enter")
        assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
        heights = page.locator("button:visible").evaluate_all("(all) => all.map((one) => one.offsetHeight)")
        assert min(heights) >= 40, "buttons are large enough for a finger"
        visit.close(here)
        assert review.process.poll() is None
    told = labels(volumes)
    actions = [(line["action"], line.get("label"), line["digest"]) for line in told]
    assert actions == [
        ("label", CLASSES[2], digests[0]),
        ("label", "nine", digests[1]),
        ("skip", None, digests[2]),
        ("not-ours", None, digests[3]),
        ("undo", None, digests[3]),
        ("label", CLASSES[2], digests[3]),
    ]
    assert {line["by"].partition("@")[0] for line in told} == {"reviewer"}
    assert {json.dumps(line["before"]) for line in told if "before" in line} == {
        json.dumps({"label": "unknown", "version": VERSION, "distance": 0.5})
    }
    assert files(volumes) == sorted(line["file"] for line in told if "file" in line)


@pytest.mark.parametrize("options", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_grid_confirms_many_at_once(browser: Browser, volumes: Path, store: Path, options: dict[str, Any]) -> None:
    for number in range(55):
        add(store, image(4 * number), number, random=True, distance=0.001 * number)
    unknown(store, 1)
    with Review(volumes) as review:
        visit = Visit(browser, review.address, **options)
        page = visit.page
        visit.press("g")
        expect(page.locator("#answers button")).to_have_text(["unknown 1", f"{CLASSES[0]} 55"])
        page.locator("#answers button").nth(1).click()
        visit.wait()
        expect(page.locator("#tiles button")).to_have_count(50)
        expect(page.locator("#tiles button").first).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        expect(page.locator("#tiles button").nth(1)).to_have_attribute("aria-pressed", "false")
        page.locator("#tiles button").nth(4).click()
        page.locator("#tiles button").nth(5).click()
        page.locator("#tiles button").nth(5).click()
        visit.press("Enter")
        expect(page.locator("#status")).to_contain_text(f"{CLASSES[0]}: 48")
        assert len(files(volumes)) == 48
        expect(page.locator("#answers button").nth(1)).to_have_text(f"{CLASSES[0]} 7")
        assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
        visit.press("u")
        expect(page.locator("#status")).to_have_text("Taken back: 48.")
        assert files(volumes) == []
        page.locator("#answers button").first.click()  # what was unknown needs a label that is typed
        visit.wait()
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_have_text("Type a label first.")
        page.keyboard.press("/")  # u alone would take something back
        page.keyboard.type(CLASSES[1])
        visit.press("Enter")
        assert labels(volumes)[-1]["label"] == CLASSES[1]
        visit.close(review.address.partition("?")[0])


def test_a_run_that_reads_the_volume_is_no_hindrance(browser: Browser, volumes: Path, store: Path) -> None:
    """The locks that a run holds are held by another process: this one."""
    digest = unknown(store, 1)
    data = volumes / "data"
    data.mkdir(parents=True)
    with ExitStack() as held, Review(volumes) as review:
        held.enter_context(shared(data))
        for name in ("copied.lock", "pixels/.lock", "splits/.lock", "dataset/.lock"):
            (data / name).parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(data / name))
        visit = Visit(browser, review.address)
        visit.press("1")
        assert files(volumes) == [f"train/{CLASSES[1]}/{digest}.png"]
        visit.press("u")
        assert files(volumes) == []
        visit.close(review.address.partition("?")[0])


def test_what_was_measured_is_shown(browser: Browser, volumes: Path, store: Path) -> None:
    for number in range(3):
        add(store, image(4 * number), number, random=True)
    with Review(volumes) as review:
        visit = Visit(browser, review.address)
        expect(visit.page.locator("#measured")).to_contain_text("no random image counts yet")
        expect(visit.page.locator("#facts")).to_contain_text("drawn at random")
        visit.press("1", "1")
        expect(visit.page.locator("#measured")).to_contain_text(
            f"Measured accuracy of {VERSION}: 1.0000 (0.3424 to 1.0000)"
        )
        visit.close(review.address.partition("?")[0])
