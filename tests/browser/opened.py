"""The page in a browser, with what a test or a screenshot does on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from gradserve_server.app import Server

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SECONDS = 300


class Page:
    """The page, with what a test does on it."""

    def __init__(self, browser: Chrome, server: Server) -> None:
        self.browser = browser
        self.address = f"http://127.0.0.1:{server.page.port}/"

    def opened(self) -> "Page":
        self.browser.get(self.address)
        self.until(lambda: self.all("body[data-ready]"))
        return self

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def until(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.browser, SECONDS, poll_frequency=0.1).until(lambda _: condition())

    def view(self, name: str) -> None:
        self.one(f"nav a[href='#{name}']").click()
        self.until(lambda: self.one(f"#{name}-form").is_displayed())

    def said(self, words: str) -> bool:
        return words in self.one("#status").text

    def photograph(self) -> None:
        self.one("[data-photograph=chelsea]").click()
        self.until(lambda: self.said("maps of"))

    def fill(self, selector: str, text: str) -> None:
        self.one(selector).clear()
        self.one(selector).send_keys(text)

    def violations(self) -> list[str]:
        """Returns what axe finds wrong."""
        self.browser.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.browser.execute_async_script(
            "const done = arguments[1]; axe.run({ runOnly: arguments[0] }).then((found) => done(found.violations))",
            RULES,
        )
        return [f"{one['id']}: {one['nodes'][0]['html']} {one['nodes'][0]['failureSummary']}" for one in found]
