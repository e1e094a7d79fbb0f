"""Debian's Chromium without a window, driven by Selenium."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--lang=en",
)


@contextmanager
def chromium(width: int = 1400, height: int = 1000, *, dark: bool = False) -> Iterator[Chrome]:
    """Runs a browser with a profile of its own, whose page has the given size in CSS pixels."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        raise RuntimeError("Chromium is needed: apt-get install chromium chromium-driver")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        running = Chrome(options=options, service=Service(driver))
        try:
            resize(running, width, height)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            running.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
            yield running
        finally:
            running.quit()


def resize(browser: Chrome, width: int, height: int) -> None:
    """Gives the page a size in CSS pixels."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
