"""A visit to the review page in a real Chromium."""

import shutil
from typing import Any

from playwright.sync_api import Browser, expect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Visit:
    """The page, opened; nothing from elsewhere is asked, and the console says nothing."""

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(address)
        self.done = 0
        self.wait()

    def wait(self) -> None:
        """Until the page has done what the last key asked for."""
        self.done += 1
        expect(self.page.locator("body")).to_have_attribute("data-ready", str(self.done), timeout=20_000)

    def press(self, *keys: str) -> None:
        """Press keys, each of which makes the page ask its server."""
        for key in keys:
            self.page.keyboard.press(key)
            self.wait()

    def close(self, here: str) -> None:
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(here)] == []
        self.context.close()
